// SPDX-License-Identifier: Apache-2.0
// How journals are written. For those who write them alone.
#pragma once

#include <cstddef>
#include <string>

#include "base/error.h"

namespace kld::run {

/// "cannot open journal '/…': " and why, by errno.
Error journal_failure(const std::string& doing, const std::string& path);

/// Appends a line, whole or not at all: half a line would spoil the next one. `synced`: it is on disk when this
/// returns.
void write_line(int fd, const std::string& path, const std::string& line, bool synced = true);

void sync_directory(const std::string& directory);

/// The note that a step begins, or was taken back.
std::string begin_line(std::size_t step);
std::string undone_line(std::size_t step);
inline constexpr char kUndoLine[] = "{\"undo\":true}\n";

/// Marks it as done, then removes it: on disk before the name goes, so that a file that outlives this (a directory that
/// cannot be written, a host root that is rolled back to now) gives nobody the right to undo what is finished. One of
/// the two is enough. Throws Error when neither can be.
void end_entry(int fd, const std::string& path);

}  // namespace kld::run
