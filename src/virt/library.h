// SPDX-License-Identifier: Apache-2.0
// libvirt, loaded when it is first needed: while ZFS lists, or never, for `--help`.
#pragma once

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "base/library.h"

namespace kld::virt {

/// Every function of libvirt that this program calls.
#define KLD_LIBVIRT_FUNCTIONS(X)     \
  X(virConnectClose)                 \
  X(virConnectCompareHypervisorCPU)  \
  X(virConnectGetAllDomainStats)     \
  X(virConnectGetDomainCapabilities) \
  X(virConnectGetHostname)           \
  X(virConnectGetType)               \
  X(virConnectGetURI)                \
  X(virConnectListAllDomains)        \
  X(virConnectListAllNetworks)       \
  X(virConnectOpen)                  \
  X(virDomainCreate)                 \
  X(virDomainDefineXMLFlags)         \
  X(virDomainCheckpointFree)         \
  X(virDomainDestroy)                \
  X(virDomainFree)                   \
  X(virDomainGetAutostart)           \
  X(virDomainGetBlockJobInfo)        \
  X(virDomainGetDiskErrors)          \
  X(virDomainGetName)                \
  X(virDomainGetState)               \
  X(virDomainGetUUIDString)          \
  X(virDomainGetXMLDesc)             \
  X(virDomainHasManagedSaveImage)    \
  X(virDomainIsPersistent)           \
  X(virDomainListAllCheckpoints)     \
  X(virDomainListGetStats)           \
  X(virDomainLookupByName)           \
  X(virDomainLookupByUUIDString)     \
  X(virDomainManagedSaveRemove)      \
  X(virDomainSetAutostart)           \
  X(virDomainShutdown)               \
  X(virDomainShutdownFlags)          \
  X(virDomainSnapshotNum)            \
  X(virDomainStatsRecordListFree)    \
  X(virDomainUndefineFlags)          \
  X(virGetLastError)                 \
  X(virNetworkFree)                  \
  X(virNetworkGetName)               \
  X(virNetworkIsActive)              \
  X(virNetworkLookupByName)          \
  X(virNodeGetInfo)                  \
  X(virSetErrorFunc)                 \
  X(virStoragePoolFree)              \
  X(virStoragePoolLookupByName)      \
  X(virStorageVolFree)               \
  X(virStorageVolGetPath)            \
  X(virStorageVolLookupByName)       \
  X(virTypedParamsGetInt)            \
  X(virTypedParamsGetUInt)           \
  X(virTypedParamsGetULLong)

KLD_LIBRARY(Api, KLD_LIBVIRT_FUNCTIONS)

/// Functions for QEMU alone, which libvirt keeps in a library of its own.
#define KLD_LIBVIRT_QEMU_FUNCTIONS(X) X(virDomainQemuAgentCommand)

KLD_LIBRARY(QemuApi, KLD_LIBVIRT_QEMU_FUNCTIONS)

const QemuApi& qemu_api();

/// Loads libvirt at the first call. Throws Error when it is not installed.
const Api& api();

}  // namespace kld::virt
