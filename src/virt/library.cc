// SPDX-License-Identifier: Apache-2.0
#include "virt/library.h"

namespace kld::virt {

const Api& api() {
  static const Api loaded = load_Api({"libvirt.so.0", "libvirt0"});
  return loaded;
}

const QemuApi& qemu_api() {
  static const QemuApi loaded = load_QemuApi({"libvirt-qemu.so.0", "libvirt0"});
  return loaded;
}

}  // namespace kld::virt
