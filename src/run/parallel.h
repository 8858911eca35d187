// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <latch>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace kld::run {

/// More only queue up behind udev and the transaction group.
inline constexpr unsigned kThreads = 8;

/// Calls `work` with every entry, on up to `threads` threads: calls that each wait for a transaction group share it.
/// All are tried; the first failure is thrown at the end.
template <typename Entry, typename Work>
void for_each_parallel(const std::vector<Entry>& entries, unsigned threads, Work&& work) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  if (entries.empty()) return;
  const std::size_t count = std::min<std::size_t>(threads, entries.size());
  // Together, or the first would close the transaction group before the second has come.
  std::latch ready(static_cast<std::ptrdiff_t>(count));
  const auto loop = [&] {
    ready.arrive_and_wait();
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
  for (std::size_t i = 1; i < count; ++i) {
    try {
      others.emplace_back(loop);
    } catch (const std::system_error&) {
      // No more threads to be had: the others do the rest.
      ready.count_down(static_cast<std::ptrdiff_t>(count - i));
      break;
    }
  }
  loop();
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace kld::run
