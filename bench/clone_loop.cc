// SPDX-License-Identifier: Apache-2.0
// The peer of `kvm-clone --count`: the same library calls in a bare loop, with no check, no lock, no journal and no
// undo. One snapshot of the machine's datasets, then for each clone lzc_clone of each dataset and one definition.
//   clone_loop ROOT SOURCE PREFIX COUNT
#include <libvirt/libvirt.h>
#include <libzfs_core.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

void check(bool good, const std::string& doing) {
  if (good) return;
  std::fprintf(stderr, "clone_loop: %s failed\n", doing.c_str());
  std::exit(1);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// Without the element that starts with `open` and ends with `close`: libvirt makes a new one.
std::string without(std::string text, const std::string& open, const std::string& close) {
  const auto at = text.find(open);
  if (at == std::string::npos) return text;
  return text.erase(at, text.find(close, at) + close.size() - at);
}

}  // namespace

int main(int argc, char** argv) {
  check(argc == 5, "reading ROOT SOURCE PREFIX COUNT");
  const std::string root = argv[1];
  const std::string source = argv[2];
  const std::string prefix = argv[3];
  const int count = std::atoi(argv[4]);
  const std::string at = "@" + prefix;
  check(libzfs_core_init() == 0, "opening ZFS");
  virConnectPtr connection = virConnectOpen("qemu:///system");
  check(connection != nullptr, "connecting");
  virDomainPtr original = virDomainLookupByName(connection, source.c_str());
  check(original != nullptr, "looking up " + source);
  char* description = virDomainGetXMLDesc(original, VIR_DOMAIN_XML_INACTIVE);
  check(description != nullptr, "reading " + source);
  std::string xml = description;
  std::free(description);
  virDomainFree(original);
  xml = without(xml, "<uuid>", "</uuid>");
  xml = without(xml, "<genid>", "</genid>");
  xml = without(xml, "<mac ", "/>");

  const std::vector<std::pair<std::string, std::string>> datasets = {{root + "/" + source, root + "/"},
                                                                     {root + "/.state/" + source, root + "/.state/"}};
  nvlist_t* snapshots = fnvlist_alloc();
  for (const auto& [dataset, parent] : datasets) fnvlist_add_boolean(snapshots, (dataset + at).c_str());
  nvlist_t* errors = nullptr;
  check(lzc_snapshot(snapshots, nullptr, &errors) == 0, "snapshotting");
  nvlist_free(errors);
  nvlist_free(snapshots);

  for (int number = 1; number <= count; ++number) {
    const std::string name = prefix + std::to_string(number);
    for (const auto& [dataset, parent] : datasets) {
      check(lzc_clone((parent + name).c_str(), (dataset + at).c_str(), nullptr) == 0, "cloning " + name);
    }
    std::string mine = replaced(xml, "<name>" + source + "<", "<name>" + name + "<");
    mine = replaced(mine, "/dev/zvol/" + root + "/" + source + "'", "/dev/zvol/" + root + "/" + name + "'");
    virDomainPtr domain = virDomainDefineXMLFlags(connection, mine.c_str(), VIR_DOMAIN_DEFINE_VALIDATE);
    check(domain != nullptr, "defining " + name);
    virDomainFree(domain);
  }
  virConnectClose(connection);
  libzfs_core_fini();
  return 0;
}
