// SPDX-License-Identifier: Apache-2.0
// Domain XML as a value: parsed, asked, edited and printed, never text-substituted. Pure: no libvirt here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kld::virt {

struct Disk {
  std::string target;  ///< "vda"
  std::string bus;     ///< "virtio"
  std::string device;  ///< "disk", "cdrom", "lun", "floppy"
  std::string type;    ///< "block", "file", "network", "volume", ...
  std::string source;  ///< path of a block or file source, else a readable description; empty: no medium
  std::string format;  ///< driver type: "raw", "qcow2"; empty when not said
  bool readonly = false;
  bool shareable = false;
  bool optional = false;  ///< a medium that the machine starts without when it is not there

  bool operator==(const Disk&) const = default;
};

struct Interface {
  std::string type;    ///< "bridge", "network", "direct", "user"
  std::string source;  ///< name of the bridge or network
  std::string mac;

  bool operator==(const Interface&) const = default;
};

enum class Tpm { none, emulator, passthrough };
enum class Firmware { bios, uefi, uefi_secure };

/// What kvm-create writes, in libvirt's terms.
struct Spec {
  std::string name;
  std::string uuid;
  std::string genid;
  std::string virt_type = "kvm";  ///< or "qemu"
  std::uint64_t memory = 0;       ///< bytes, a multiple of 1 MiB
  unsigned vcpus = 0;
  std::string cpu = "host-model";  ///< "host-model", "host" (host-passthrough), or a CPU model's name
  Firmware firmware = Firmware::uefi;
  std::string nvram;  ///< path of the UEFI variables, used unless BIOS
  bool tpm = true;
  std::vector<std::string> disks;    ///< device paths, vda first
  std::optional<std::string> seed;   ///< path of the NoCloud image: a read-only virtio disk
  std::vector<std::string> cdroms;   ///< ISO paths
  std::optional<Interface> network;  ///< none: no NIC; mac is required in it
  std::string os_id;                 ///< libosinfo URI "http://debian.org/debian/12"; empty: none
  bool windows = false;              ///< Hyper-V features, local-time clock
  std::string vnc_listen = "127.0.0.1";
};

/// The XML of a new q35 domain: virtio disks (cache=none io=native discard=unmap, one iothread), virtio net, serial
/// console, guest agent channel, virtio RNG, memballoon, VNC, genid, TPM 2.0 by swtpm, boot order disk then CD.
std::string new_definition(const Spec& spec);

/// A domain definition. Copies are deep.
class Definition {
 public:
  /// Throws Error when the text is not domain XML (or is beyond 4 MiB, nests absurdly, or carries a DOCTYPE). Comments
  /// are dropped.
  static Definition parse(std::string_view xml);
  Definition(const Definition&);
  Definition& operator=(const Definition&);
  Definition(Definition&&) noexcept;
  Definition& operator=(Definition&&) noexcept;
  ~Definition();

  std::string name() const;
  std::string uuid() const;
  std::string virt_type() const;  ///< "kvm", "qemu"
  std::uint64_t memory() const;   ///< bytes
  unsigned vcpus() const;
  std::optional<std::string> genid() const;
  std::optional<std::string> nvram() const;  ///< path of the UEFI variables when the definition names it
  /// The file of the UEFI variables: the one named, else the one that libvirt takes when it chooses the firmware
  /// (qemuDomainNVRAMPathFormat; before 9.2 it does not write that down). None without variables of its own.
  std::optional<std::string> variables() const;
  bool uefi() const;                              ///< firmware='efi' or a pflash loader
  std::optional<std::string> loader() const;      ///< path of the firmware's code when the definition names it
  std::vector<std::string> boot_files() const;    ///< kernel, initrd, device tree that it is started with directly
  std::string architecture() const;               ///< "x86_64"
  std::string machine_type() const;               ///< "pc-q35-7.2"
  std::string emulator() const;                   ///< path of QEMU; empty: libvirt chooses
  std::optional<std::string> custom_cpu() const;  ///< XML of <cpu mode='custom'>; none for the host's own CPU
  Tpm tpm() const;
  std::vector<Disk> disks() const;
  std::vector<Interface> interfaces() const;
  /// What ties a definition to this host's hardware, readable: "PCI device 0000:01:00.0", "USB device ...",
  /// "filesystem /srv -> share". Empty for most machines.
  std::vector<std::string> host_devices() const;
  bool has_qemu_arguments() const;  ///< <qemu:commandline>, which libvirt does not look into
  /// "127.0.0.1:5900", "[::1]:5900"; nullopt without VNC, on a socket, or while the port is still to be chosen.
  std::optional<std::string> vnc_address() const;

  void set_name(std::string_view name);   ///< also drops <title> when it equals the old name
  void set_uuid(std::string_view uuid);   ///< and its copies in SMBIOS, which libvirt wants equal
  void set_genid(std::string_view uuid);  ///< adds the element when there is none
  /// Same order and number as interfaces(), else throws; each keeps everything else. Also drops <target dev> of
  /// interfaces.
  void set_macs(const std::vector<std::string>& macs);
  /// Sets the path; the template and loader stay. Adds <nvram> when there is none. No-op without UEFI variables of its
  /// own: BIOS, a stateless loader, a writable image of code and variables.
  void set_nvram(std::string_view path);
  /// Gives the disk another source of type block (path under /dev/, read as raw) or file (format kept). Throws when
  /// there is no such target.
  void set_disk_source(std::string_view target, std::string_view path);
  /// Adds a read-only virtio disk for a NoCloud image on the first free vdX.
  void add_seed(std::string_view path);
  /// Throws when there is no such target.
  void remove_disk(std::string_view target);
  void remove_tpm();
  void remove_host_devices();  ///< everything host_devices() lists
  /// Sets memory and currentMemory (and a single NUMA cell); drops <maxMemory>. Throws with memory devices or several
  /// NUMA cells.
  void set_memory(std::uint64_t bytes);
  /// Also drops <vcpus>, vcpu current=, cputune pins and topology that would not fit. Throws with several NUMA cells.
  void set_vcpus(unsigned count);
  /// Drops what belongs to one running host or one machine and must not be copied: <seclabel> that is static or has an
  /// own label, fixed VNC/SPICE ports and sockets (libvirt picks again), channel socket paths, chardev logs, switch
  /// port ids, a fixed vsock address. Serial ports that claim a file, socket or port of the host become a pty.
  void make_portable();

  std::string xml() const;
  /// Equal as machines: same elements and attributes, whatever the white space and order of attributes.
  bool same_as(const Definition& other) const;
  /// The same, whatever the order of its controllers: libvirt words implied ones elsewhere when it has started anew.
  bool same_hardware(const Definition& other) const;

 private:
  struct Document;
  explicit Definition(std::unique_ptr<Document> document);
  std::unique_ptr<Document> document_;
};

/// A MAC of the KVM prefix 52:54:00 from three random bytes.
std::string mac_from(const unsigned char random[3]);

}  // namespace kld::virt
