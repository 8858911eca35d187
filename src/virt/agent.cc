// SPDX-License-Identifier: Apache-2.0
// The guest's agent, asked through libvirt. It may be stopped, swapped out or gone: every call has its limit.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "virt/connection_impl.h"

namespace kld::virt {

namespace {

/// The agent's answer to a command without arguments. Throws Error.
std::string ask(const Domain& domain, const char* command, std::chrono::seconds limit) {
  const std::string text = fmt::format(R"({{"execute":"{}"}})", command);
  return take(
      check(qemu_api().virDomainQemuAgentCommand(domain.get(), text.c_str(), static_cast<int>(limit.count()), 0),
            "asking the agent of domain " + quoted_name(domain)));
}

/// Throws Error when it does not say.
bool says_frozen(const Domain& domain, std::chrono::seconds limit) {
  const std::string answer = ask(domain, "guest-fsfreeze-status", limit);
  try {
    return nlohmann::json::parse(answer).at("return") == "frozen";
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("the agent of domain {} answers '{}'", quoted_name(domain), answer));
  }
}

/// For the calls that have no limit of their own.
void limit_calls(const Domain& domain, std::chrono::seconds limit) {
  check(api().virDomainAgentSetResponseTimeout(domain.get(), static_cast<int>(limit.count()), 0),
        "limiting the wait for the agent of domain " + quoted_name(domain));
}

}  // namespace

std::optional<std::string> Connection::freeze_problem(const std::string& uuid, std::chrono::seconds limit) const {
  try {
    const Domain domain = required(impl_->get(), uuid);
    ask(domain, "guest-ping", limit);
    // Whoever did that will thaw it; we would thaw it under them.
    if (says_frozen(domain, limit)) return "its file systems are frozen already";
    return std::nullopt;
  } catch (const Error& error) {
    return "its agent does not answer: " + error.message();
  }
}

int Connection::freeze(const std::string& uuid, std::chrono::seconds limit) const {
  const Domain domain = required(impl_->get(), uuid);
  limit_calls(domain, limit);
  return check(api().virDomainFSFreeze(domain.get(), nullptr, 0, 0),
               "freezing the file systems of domain " + quoted_name(domain));
}

int Connection::thaw(const std::string& uuid, std::chrono::seconds limit) const {
  const Domain domain = required(impl_->get(), uuid);
  limit_calls(domain, limit);
  return check(api().virDomainFSThaw(domain.get(), nullptr, 0, 0),
               "thawing the file systems of domain " + quoted_name(domain));
}

std::optional<bool> Connection::is_frozen(const std::string& uuid, std::chrono::seconds limit) const {
  try {
    return says_frozen(required(impl_->get(), uuid), limit);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace kld::virt
