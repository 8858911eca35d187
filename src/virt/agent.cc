// SPDX-License-Identifier: Apache-2.0
// The guest's agent, asked through libvirt. It may be stopped, swapped out or gone: every call has its limit.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "virt/connection_impl.h"

namespace kld::virt {

namespace {

/// What the agent returns to a command without arguments. The limit is this call's own: a limit that libvirt keeps for
/// the domain would cut off what others ask of its agent. Throws AgentRefused for its own error, Error when it says
/// nothing.
nlohmann::json ask(const Domain& domain, const char* command, std::chrono::seconds limit) {
  const std::string text = fmt::format(R"({{"execute":"{}"}})", command);
  const std::string answer =
      take(check(qemu_api().virDomainQemuAgentCommand(domain.get(), text.c_str(), static_cast<int>(limit.count()), 0),
                 "asking the agent of domain " + quoted_name(domain)));
  try {
    const auto json = nlohmann::json::parse(answer);
    if (json.contains("error")) throw AgentRefused(json.at("error").at("desc").get<std::string>());
    return json.at("return");
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format("the agent of domain {} answers '{}'", quoted_name(domain), answer));
  }
}

bool says_frozen(const Domain& domain, std::chrono::seconds limit) {
  return ask(domain, "guest-fsfreeze-status", limit) == "frozen";
}

int count_of(const nlohmann::json& answer) { return answer.is_number_integer() ? answer.get<int>() : 0; }

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
  return count_of(ask(required(impl_->get(), uuid), "guest-fsfreeze-freeze", limit));
}

int Connection::thaw(const std::string& uuid, std::chrono::seconds limit) const {
  return count_of(ask(required(impl_->get(), uuid), "guest-fsfreeze-thaw", limit));
}

std::optional<bool> Connection::is_frozen(const std::string& uuid, std::chrono::seconds limit) const {
  try {
    return says_frozen(required(impl_->get(), uuid), limit);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace kld::virt
