// SPDX-License-Identifier: Apache-2.0
// What a copy of a definition must leave behind.
#include "virt/document.h"

namespace kld::virt {

namespace {

void drop_own_seclabels(pugi::xml_node domain) {
  std::vector<pugi::xml_node> own;
  for (const pugi::xml_node label : domain.children("seclabel"))
    if (has_value(label, "type", "static") || label.child("label")) own.push_back(label);
  for (const pugi::xml_node label : own) domain.remove_child(label);
}

/// A socket is made anew by libvirt, at a path of its own; a port is chosen anew. <listen type='none'/> stays as it is.
void free_graphics(pugi::xml_node graphics) {
  if (!has_value(graphics, "type", "vnc") && !has_value(graphics, "type", "spice")) return;
  if (graphics.remove_attribute("socket") && !graphics.child("listen"))
    set_attribute(graphics.append_child("listen"), "type", "socket");
  for (const char* port : {"port", "tlsPort"}) graphics.remove_attribute(port);
  if (graphics.attribute("websocket")) set_attribute(graphics, "websocket", "-1");
  bool listens_on_port = true;
  for (pugi::xml_node listen : graphics.children("listen")) {
    listen.remove_attribute("socket");
    if (has_value(listen, "type", "socket") || has_value(listen, "type", "none")) listens_on_port = false;
  }
  graphics.remove_attribute("autoport");
  if (listens_on_port) set_attribute(graphics, "autoport", "yes");
}

/// Whether two machines with this character device would meet on the host: one file, one socket, one port.
bool claims_the_host(pugi::xml_node device) {
  for (const char* type : {"file", "pipe", "udp"})
    if (has_value(device, "type", type)) return true;
  const bool listens = has_value(device, "type", "unix") || has_value(device, "type", "tcp");
  return listens && !has_value(device.child("source"), "mode", "connect");
}

void free_serial(pugi::xml_node device) {
  remove_children(device, "log");
  device.remove_attribute("tty");
  if (claims_the_host(device)) {
    set_attribute(device, "type", "pty");
    remove_children(device, "protocol");
  }
  if (has_value(device, "type", "pty")) remove_children(device, "source");
}

/// libvirt picks the path of a virtio channel's socket itself, from the machine's name, when none is given.
void free_channel(pugi::xml_node channel) {
  remove_children(channel, "log");
  if (!claims_the_host(channel)) return;
  set_attribute(channel, "type", "unix");
  for (const char* of_the_old : {"source", "protocol"}) remove_children(channel, of_the_old);
}

/// A switch knows a port by these: two machines with the same are one port. libvirt makes new ones.
void free_port_profile(pugi::xml_node interface) {
  pugi::xml_node parameters = interface.child("virtualport").child("parameters");
  for (const char* id : {"interfaceid", "instanceid"}) parameters.remove_attribute(id);
  if (parameters && !parameters.first_attribute()) parameters.parent().remove_child(parameters);
}

/// A vsock address is the host's, and one machine's at a time.
void free_vsock(pugi::xml_node vsock) {
  pugi::xml_node cid = vsock.child("cid");
  if (!cid) return;
  cid.remove_attribute("address");
  set_attribute(cid, "auto", "yes");
}

}  // namespace

void Definition::make_portable() {
  pugi::xml_node domain = document_->domain();
  domain.remove_attribute("id");
  drop_own_seclabels(domain);
  for (const pugi::xml_node device : document_->devices()) {
    const std::string_view name = device.name();
    if (name == "graphics") free_graphics(device);
    if (name == "serial" || name == "console" || name == "parallel") free_serial(device);
    if (name == "channel") free_channel(device);
    if (name == "interface") free_port_profile(device);
    if (name == "vsock") free_vsock(device);
  }
}

}  // namespace kld::virt
