// SPDX-License-Identifier: Apache-2.0
#include "cli/app.h"
#include "cmd/commands.h"

int main(int argc, char** argv) { return kld::cli::run_app(kld::cmd::all(), argc, argv); }
