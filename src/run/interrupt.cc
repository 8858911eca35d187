// SPDX-License-Identifier: Apache-2.0
#include "run/interrupt.h"

#include <csignal>
#include <initializer_list>

namespace kld::run {
namespace {

volatile std::sig_atomic_t asked = 0;

void ask(int) { asked = 1; }

}  // namespace

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = ask;  // no SA_RESTART: a wait shall end
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
}

bool interrupted() { return asked != 0; }

}  // namespace kld::run
