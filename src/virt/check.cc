// SPDX-License-Identifier: Apache-2.0
#include "virt/check.h"

#include <cstdlib>

#include "base/error.h"

namespace kld::virt {

void silence_libvirt() {
  static const bool silenced = [] {
    api().virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
    return true;
  }();
  static_cast<void>(silenced);
}

virErrorNumber last_error() {
  const virErrorPtr error = api().virGetLastError();
  return error == nullptr ? VIR_ERR_OK : static_cast<virErrorNumber>(error->code);
}

std::string last_message() {
  const virErrorPtr last = api().virGetLastError();
  return last != nullptr && last->message != nullptr ? last->message : "libvirt gave no reason";
}

void fail(std::string_view doing, std::string hint) {
  Error error(last_message(), std::move(hint));
  error.add_context(std::string(doing));
  throw error;
}

std::string take(char* text) {
  if (text == nullptr) return {};
  std::string copy = text;
  std::free(text);
  return copy;
}

}  // namespace kld::virt
