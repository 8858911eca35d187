// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kld::run {

/// Calls `work` with every entry, on up to `threads` threads: calls that each wait for a transaction group share it.
/// All are tried; the first failure is thrown at the end.
template <typename Entry, typename Work>
void for_each_parallel(const std::vector<Entry>& entries, unsigned threads, Work&& work) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto loop = [&] {
    for (std::size_t i = next++; i < entries.size(); i = next++) {
      try {
        work(entries[i]);
      } catch (...) {
        const std::lock_guard guard(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> others;
  const std::size_t count = std::min<std::size_t>(threads, entries.size());
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(loop);
  loop();
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace kld::run
