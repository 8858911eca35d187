// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <string>

#include "cli/app.h"
#include "cmd/commands.h"

namespace {

/// cron's path and that of a plain `su` lack where Debian has zfs.
void add_to_path(const std::string& directories) {
  const char* path = std::getenv("PATH");
  ::setenv("PATH", ((path == nullptr || *path == '\0' ? "/usr/bin:/bin" : std::string(path)) + directories).c_str(), 1);
}

}  // namespace

int main(int argc, char** argv) {
  add_to_path(":/usr/sbin:/sbin");
  return kld::cli::run_app(kld::cmd::all(), argc, argv);
}
