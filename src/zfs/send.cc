// SPDX-License-Identifier: Apache-2.0
#include "zfs/send.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/size.h"
#include "zfs/dataset.h"

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

/// Snapshots of these datasets among the arguments of a `zfs send`. An incremental source may be given as "@s" alone:
/// it is then of the dataset that is sent.
std::vector<std::string> named_in(const std::vector<std::string>& arguments, const std::vector<std::string>& datasets) {
  const bool sends = arguments.size() > 2 && fs::path(arguments[0]).filename() == "zfs" && arguments[1] == "send";
  if (!sends) return {};
  const auto dataset = dataset_of(arguments.back());
  if (std::find(datasets.begin(), datasets.end(), dataset) == datasets.end()) return {};
  std::vector<std::string> snapshots;
  for (auto argument = arguments.begin() + 2; argument != arguments.end(); ++argument) {
    if (argument->starts_with('@')) {
      snapshots.push_back(dataset + *argument);
    } else if (argument->find('@') != std::string::npos) {
      snapshots.push_back(*argument);
    }
  }
  return snapshots;
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
    auto snapshots = named_in(arguments_of(process), datasets);
    if (snapshots.empty()) continue;
    sends.push_back({std::stoi(process.filename()), std::move(snapshots), reader_of(process), written_by(process)});
  }
  return sends;
}

std::string to_string(const Send& send) {
  return fmt::format("zfs send of {} (pid {}){}, {} so far", send.snapshots.back(), send.pid,
                     send.target.empty() ? "" : fmt::format(" to '{}'", send.target), format_size(send.bytes));
}

}  // namespace kld::zfs
