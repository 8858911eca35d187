// SPDX-License-Identifier: Apache-2.0
#include "run/media.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/process.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

/// By the first bytes: what people download as a disk image and have not unpacked. Empty for anything else.
std::string packing_of(const std::string& path) {
  struct Magic {
    std::size_t offset;
    std::string_view bytes;
    const char* name;
  };
  using namespace std::string_view_literals;
  static constexpr Magic kMagics[] = {{0, "\x1f\x8b"sv, "gzip"},
                                      {0,
                                       "\xfd"
                                       "7zXZ\0"sv,
                                       "xz"},
                                      {0, "\x28\xb5\x2f\xfd"sv, "zstd"},
                                      {0, "BZh"sv, "bzip2"},
                                      {0, "PK\x03\x04"sv, "zip"},
                                      {0, "7z\xbc\xaf\x27\x1c"sv, "7z"},
                                      {257, "ustar"sv, "tar"}};
  std::ifstream file(path, std::ios::binary);
  std::string start(512, '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  for (const auto& magic : kMagics) {
    if (start.compare(magic.offset, magic.bytes.size(), magic.bytes) == 0) return magic.name;
  }
  return {};
}

/// What the file system says that a file takes may be compressed, or not written yet: qemu-img looks for holes.
/// 0 when it cannot say.
std::uint64_t data_in(const std::string& path, const std::string& format) {
  const auto result = run_process({"qemu-img", "measure", "--output=json", "-U", "-f", format, "-O", "qcow2", path});
  if (result.status != 0) return 0;
  return nlohmann::json::parse(result.out).value("required", std::uint64_t{0});
}

}  // namespace

std::optional<Refusal> unreadable(const std::string& what, const std::string& path) {
  std::error_code problem;
  const auto status = fs::status(path, problem);
  const auto refuse = [&](const std::string& why) {
    return Refusal{"unreadable", fmt::format("{} '{}' {}", what, path, why), {}, "check the path"};
  };
  if (!fs::exists(status)) return refuse("does not exist");
  if (!fs::is_regular_file(status) && !fs::is_block_file(status)) return refuse("is not a file");
  if (::access(path.c_str(), R_OK) != 0) return refuse("cannot be read");
  return std::nullopt;
}

bool reachable_for_qemu(const std::string& path) {
  const passwd* user = nullptr;
  for (const char* name : {"libvirt-qemu", "qemu"}) {
    if (user == nullptr) user = ::getpwnam(name);
  }
  if (user == nullptr) return true;
  for (fs::path directory = fs::path(path).parent_path(); directory.has_relative_path();
       directory = directory.parent_path()) {
    struct stat status {};
    if (::stat(directory.c_str(), &status) != 0) return true;
    const mode_t bit = status.st_uid == user->pw_uid ? S_IXUSR : status.st_gid == user->pw_gid ? S_IXGRP : S_IXOTH;
    if ((status.st_mode & bit) == 0) return false;
  }
  return true;
}

plan::ImageInfo inspect_image(const std::string& path) {
  if (auto refusal = unreadable("image", path)) throw Refused(*refusal);
  const auto result = run_process({"qemu-img", "info", "--output=json", "-U", path});
  if (result.status != 0) {
    throw Refused({"no-image",
                   fmt::format("'{}' cannot be read as a disk image", path),
                   {result.err.substr(0, result.err.find('\n'))},
                   "look at it with 'qemu-img info'"});
  }
  try {
    const auto json = nlohmann::json::parse(result.out);
    plan::ImageInfo info;
    info.format = json.at("format").get<std::string>();
    info.virtual_size = json.at("virtual-size").get<std::uint64_t>();
    info.backing_file = json.value("backing-filename", "");
    info.encrypted = json.value("encrypted", false);
    if (info.format == "raw") info.packed = packing_of(path);
    info.data_file = json.value(nlohmann::json::json_pointer("/format-specific/data/data-file"), "");
    const bool whole = info.packed.empty() && info.backing_file.empty() && info.data_file.empty() && !info.encrypted;
    if (whole && (info.format == "raw" || info.format == "qcow2")) info.data = data_in(path, info.format);
    return info;
  } catch (const nlohmann::json::exception& problem) {
    throw Error(fmt::format("unexpected answer of 'qemu-img info {}': {}", path, problem.what()));
  }
}

}  // namespace kld::run
