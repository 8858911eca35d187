// SPDX-License-Identifier: Apache-2.0
#include "zfs/send.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/process.h"
#include "base/size.h"
#include "zfs/dataset.h"
#include "zfs/parse.h"

namespace kld::zfs {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> arguments_of(const fs::path& process) {
  std::ifstream stream(process / "cmdline", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  std::vector<std::string> arguments;
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\0', start), text.size());
    arguments.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return arguments;
}

std::vector<fs::path> processes() {
  std::vector<fs::path> all;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/proc", none)) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") == std::string::npos) all.push_back(entry.path());
  }
  return all;
}

bool is_replication(const std::string& argument) {
  const bool short_flags = argument.size() > 1 && argument[0] == '-' && argument[1] != '-';
  return argument == "--replicate" || (short_flags && argument.find('R') != std::string::npos);
}

/// The token that this send goes on from; empty: none, or it only says what it would send. "-t TOKEN", or behind other
/// short flags.
std::string token_in(const std::vector<std::string>& arguments) {
  for (std::size_t i = 2; i + 1 < arguments.size(); ++i) {
    const auto& flags = arguments[i];
    if (flags.size() < 2 || flags[0] != '-' || flags[1] == '-' || !flags.ends_with('t')) continue;
    return flags.find('n') == std::string::npos ? arguments[i + 1] : std::string();
  }
  return {};
}

/// What a resumed send sends, as ZFS reads its token; nullopt when it cannot.
std::optional<Send> resumed_send(const std::string& token, const std::vector<std::string>& datasets) {
  // It fails where it could not go on, and says all the same what the token holds.
  const auto snapshot = snapshot_in_token(run_process({"zfs", "send", "-nvt", token}).out);
  if (std::find(datasets.begin(), datasets.end(), dataset_of(snapshot)) == datasets.end()) return std::nullopt;
  Send send;
  send.snapshots.push_back(snapshot);
  return send;
}

/// What the arguments of a `zfs send` name of these datasets. An incremental source may be given as "@s" alone: it is
/// then of the dataset that is sent.
std::optional<Send> send_in(const std::vector<std::string>& arguments, const std::vector<std::string>& datasets) {
  const bool sends = arguments.size() > 2 && fs::path(arguments[0]).filename() == "zfs" && arguments[1] == "send";
  if (!sends) return std::nullopt;
  if (const auto token = token_in(arguments); !token.empty()) return resumed_send(token, datasets);
  Send send;
  const auto dataset = dataset_of(arguments.back());
  if (std::any_of(arguments.begin() + 2, arguments.end() - 1, is_replication)) {
    for (const auto& one : datasets) {
      if (one == dataset || is_below(one, dataset)) send.whole.push_back(one);
    }
  }
  const bool named = std::find(datasets.begin(), datasets.end(), dataset) != datasets.end();
  if (!named && send.whole.empty()) return std::nullopt;
  for (auto argument = arguments.begin() + 2; argument != arguments.end(); ++argument) {
    if (argument->starts_with('@')) {
      send.snapshots.push_back(dataset + *argument);
    } else if (argument->find('@') != std::string::npos) {
      send.snapshots.push_back(*argument);
    }
  }
  if (send.snapshots.empty()) return std::nullopt;
  return send;
}

std::uint64_t written_by(const fs::path& process) {
  std::ifstream stream(process / "io");
  std::string key;
  std::uint64_t value = 0;
  while (stream >> key >> value) {
    if (key == "wchar:") return value;
  }
  return 0;
}

std::string link_of(const fs::path& process, const char* descriptor) {
  std::error_code none;
  return fs::read_symlink(process / "fd" / descriptor, none);
}

/// Who reads the pipe that this process writes to.
std::string reader_of(const fs::path& process) {
  const auto pipe = link_of(process, "1");
  if (!pipe.starts_with("pipe:")) return pipe;
  for (const auto& other : processes()) {
    if (other != process && link_of(other, "0") == pipe) return fmt::format("{}", fmt::join(arguments_of(other), " "));
  }
  return {};
}

}  // namespace

std::vector<Send> running_sends(const std::vector<std::string>& datasets) {
  std::vector<Send> sends;
  for (const auto& process : processes()) {
    auto send = send_in(arguments_of(process), datasets);
    if (!send) continue;
    send->pid = std::stoi(process.filename());
    send->target = reader_of(process);
    send->bytes = written_by(process);
    sends.push_back(std::move(*send));
  }
  return sends;
}

std::string to_string(const Send& send) {
  return fmt::format("zfs send of {} (pid {}){}, {} so far", send.snapshots.back(), send.pid,
                     send.target.empty() ? "" : fmt::format(" to '{}'", send.target), format_size(send.bytes));
}

}  // namespace kld::zfs
