// SPDX-License-Identifier: Apache-2.0
// libvirt's handles as owners, and the one door through which its failures come.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "virt/library.h"

namespace kld::virt {

template <auto release>
struct Release {
  template <typename Handle>
  void operator()(Handle* handle) const {
    (api().*release)(handle);
  }
};

using Connect = std::unique_ptr<virConnect, Release<&Api::virConnectClose>>;
using Domain = std::unique_ptr<virDomain, Release<&Api::virDomainFree>>;
using Network = std::unique_ptr<virNetwork, Release<&Api::virNetworkFree>>;
using StoragePool = std::unique_ptr<virStoragePool, Release<&Api::virStoragePoolFree>>;
using StorageVolume = std::unique_ptr<virStorageVol, Release<&Api::virStorageVolFree>>;
using DomainStats = std::unique_ptr<virDomainStatsRecordPtr, Release<&Api::virDomainStatsRecordListFree>>;

/// Stops libvirt from printing to stderr by itself. Idempotent.
void silence_libvirt();

/// Code of this thread's last libvirt error, VIR_ERR_OK when there is none.
virErrorNumber last_error();

/// Its words.
std::string last_message();

/// Throws libvirt's last error as Error, `doing` ("looking up domain 'web'") its context.
[[noreturn]] void fail(std::string_view doing, std::string hint = {});

template <typename Handle>
Handle* check(Handle* handle, std::string_view doing) {
  if (handle == nullptr) fail(doing);
  return handle;
}

inline int check(int result, std::string_view doing) {
  if (result < 0) fail(doing);
  return result;
}

/// The text that libvirt allocated; empty for null.
std::string take(char* text);

/// Owners of the handles in an array that libvirt allocated; the array itself is freed.
template <typename Owner, typename Handle>
std::vector<Owner> take_all(Handle** handles, int count) {
  std::vector<Owner> owners;
  for (int i = 0; i < count; ++i) owners.emplace_back(handles[i]);
  std::free(handles);
  return owners;
}

}  // namespace kld::virt
