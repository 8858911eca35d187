// SPDX-License-Identifier: Apache-2.0
// What of a Connection changes domains: definitions, starts and stops.
#include <fmt/format.h>

#include <cstring>
#include <thread>

#include "base/error.h"
#include "virt/connection_impl.h"
#include "virt/listing.h"

namespace kld::virt {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto poll_interval = std::chrono::milliseconds(100);
// virDomainDestroy waits by itself; this bounds only the wait for the state to follow.
constexpr auto destroy_limit = std::chrono::seconds(30);

/// True once the domain is shut off; false at the deadline.
bool wait_until_off(virDomainPtr domain, Clock::time_point deadline, const std::function<bool()>& interrupted = {}) {
  while (is_active(state_of(domain))) {
    if (interrupted && interrupted()) throw Interrupted();
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(poll_interval);
  }
  return true;
}

/// The power button first: unlike the agent, it never makes the caller wait. False when the guest cannot be asked.
bool ask_to_shut_down(virDomainPtr domain) {
  return api().virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) == 0 ||
         api().virDomainShutdown(domain) == 0;
}

bool can_react(State state) { return state == State::running || state == State::shutting_down; }

void destroy(const Domain& domain) {
  try {
    check(api().virDomainDestroy(domain.get()), "stopping domain " + quoted_name(domain));
  } catch (const Error&) {
    if (is_active(state_of(domain.get()))) throw;  // else it ended by itself a moment before
  }
  if (!wait_until_off(domain.get(), Clock::now() + destroy_limit))
    throw Error(fmt::format("domain {} is still active after it was destroyed", quoted_name(domain)));
}

}  // namespace

void Connection::define(const std::string& xml, bool validate) const {
  const unsigned flags = validate ? VIR_DOMAIN_DEFINE_VALIDATE : 0;
  const Domain domain(check(api().virDomainDefineXMLFlags(impl_->get(), xml.c_str(), flags), "defining a domain"));
}

bool Connection::undefine(const std::string& uuid) const {
  const Domain domain = look_up(impl_->get(), uuid);
  if (!domain) return false;
  // The test driver keeps no such state and refuses the flags; nobody else is ever asked without them.
  const bool is_test = std::strcmp(check(api().virConnectGetType(impl_->get()), "asking for the driver"), "TEST") == 0;
  const unsigned keep = is_test ? 0U : VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_TPM;
  check(api().virDomainUndefineFlags(domain.get(), keep), "undefining domain " + quoted_name(domain));
  return true;
}

bool Connection::is_running(const std::string& uuid) const {
  const Domain domain = look_up(impl_->get(), uuid);
  return domain && is_active(state_of(domain.get()));
}

bool Connection::start(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  if (is_active(state_of(domain.get()))) return false;
  try {
    check(api().virDomainCreate(domain.get()), "starting domain " + quoted_name(domain));
  } catch (const Error&) {
    if (is_active(state_of(domain.get()))) return false;  // somebody else started it a moment before
    throw;
  }
  return true;
}

bool Connection::stop(const std::string& uuid, std::chrono::seconds graceful, const std::function<bool()>& interrupted,
                      const std::function<void()>& on_interrupt) const {
  const Domain domain = required(impl_->get(), uuid);
  const State state = state_of(domain.get());
  if (!is_active(state)) return false;
  if (graceful.count() > 0 && can_react(state) && ask_to_shut_down(domain.get())) {
    // It cannot be unasked: whoever interrupts has to know whether it went off.
    const auto tell_once = [&, told = false]() mutable {
      if (!told && interrupted && interrupted()) {
        told = true;
        if (on_interrupt) on_interrupt();
      }
      return false;
    };
    if (wait_until_off(domain.get(), Clock::now() + graceful, tell_once)) return true;
    if (interrupted && interrupted()) throw Interrupted();
  }
  destroy(domain);
  return true;
}

void Connection::await_off(const std::string& uuid, std::chrono::seconds limit,
                           const std::function<bool()>& interrupted) const {
  if (const Domain domain = look_up(impl_->get(), uuid))
    wait_until_off(domain.get(), Clock::now() + limit, interrupted);
}

void Connection::set_autostart(const std::string& uuid, bool autostart) const {
  const Domain domain = required(impl_->get(), uuid);
  check(api().virDomainSetAutostart(domain.get(), autostart ? 1 : 0),
        "setting autostart of domain " + quoted_name(domain));
}

bool Connection::has_managed_save(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  return check(api().virDomainHasManagedSaveImage(domain.get(), 0),
               "looking for the saved state of domain " + quoted_name(domain)) == 1;
}

void Connection::remove_managed_save(const std::string& uuid) const {
  const Domain domain = required(impl_->get(), uuid);
  const std::string doing = "removing the saved state of domain " + quoted_name(domain);
  if (check(api().virDomainHasManagedSaveImage(domain.get(), 0), doing) == 1)
    check(api().virDomainManagedSaveRemove(domain.get(), 0), doing);
}

}  // namespace kld::virt
