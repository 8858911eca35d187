// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>

namespace kld::run {

/// The whole file; nullopt when there is none. Throws Error past `limit` bytes.
std::optional<std::string> read_file(const std::string& path, std::size_t limit = 16U << 20);
/// When the file was last written, "2026-05-01T07:00:00Z"; empty when there is none.
std::string written_at(const std::string& path);
/// Brings the filesystem with this directory to disk.
void sync_filesystem(const std::string& directory);
/// Replaces the file atomically, mode 0600; makes its directory, mode 0700, when missing. `synced`: on disk, with its
/// name, when it returns.
void write_file(const std::string& path, const std::string& content, bool synced);
/// What a writer of this file that was killed has left beside it.
void remove_unfinished(const std::string& path);
/// Gone already counts as removed.
void remove_file(const std::string& path);
/// A directory's regular files (TPM) or one file (NVRAM), with owner and mode. A source that is not there: nothing.
void copy_files(const std::string& from, const std::string& to);
/// Does nothing when `from` is gone and `to` is there; throws when both are.
void move_aside(const std::string& from, const std::string& to);
/// ISO 9660 with Rock Ridge and Joliet, volume `cidata`, replaced atomically.
void write_seed(const std::string& path, const std::map<std::string, std::string>& documents);

}  // namespace kld::run
