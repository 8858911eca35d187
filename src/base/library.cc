// SPDX-License-Identifier: Apache-2.0
#include "base/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "base/error.h"

namespace kld {

void* library_function(const LibraryName& library, const char* function) {
  // Opened anew for each function: only counted, the second time.
  void* handle = ::dlopen(library.soname, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) {
    throw Error(fmt::format("a library cannot be loaded: {}", ::dlerror()),
                fmt::format("install it: apt-get install {}", library.package));
  }
  void* found = ::dlsym(handle, function);
  if (found == nullptr) throw Error(fmt::format("{} is too old: it has no {}", library.soname, function));
  return found;
}

}  // namespace kld
