// SPDX-License-Identifier: Apache-2.0
// Libraries that are loaded when they are first needed, not with the program: the loader's work with all that libvirt
// and libarchive bring with them would be the longest part of most commands.
#pragma once

namespace kld {

struct LibraryName {
  const char* soname;
  const char* package;  ///< Debian's, for the hint when it is missing
};

/// A function of the library, which stays loaded. Throws Error when there is no such library, or it has no such
/// function.
void* library_function(const LibraryName& library, const char* function);

}  // namespace kld

/// A struct of pointers to C functions by their own names, from a list X(first) X(second) …, and `Name load_Name()`.
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name of a member takes none
#define KLD_LIBRARY_MEMBER(function) decltype(&::function) function;
#define KLD_LIBRARY_FIND(function) \
  found.function = reinterpret_cast<decltype(found.function)>(::kld::library_function(library, #function));
#define KLD_LIBRARY(Name, FUNCTIONS)                           \
  struct Name {                                                \
    FUNCTIONS(KLD_LIBRARY_MEMBER)                              \
  };                                                           \
  inline Name load_##Name(const ::kld::LibraryName& library) { \
    Name found{};                                              \
    FUNCTIONS(KLD_LIBRARY_FIND)                                \
    return found;                                              \
  }
