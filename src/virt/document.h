// SPDX-License-Identifier: Apache-2.0
// What the files of this folder share about a Definition's tree. Not for other layers.
#pragma once

#include <pugixml.hpp>
#include <string>
#include <string_view>

#include "virt/definition.h"

namespace kld::virt {

struct Definition::Document {
  pugi::xml_document tree;
  pugi::xml_node domain() const { return tree.document_element(); }
  pugi::xml_node devices() const { return domain().child("devices"); }
};

/// The child element, made at the end of `parent` when there is none.
pugi::xml_node child_or_new(pugi::xml_node parent, const char* name);

/// The attribute, made when there is none, with this value.
void set_attribute(pugi::xml_node node, const char* name, std::string_view value);

void set_text(pugi::xml_node node, std::string_view text);

/// Whether the attribute is there with exactly this value.
bool has_value(pugi::xml_node node, const char* name, const char* value);

/// Whether the UEFI variables are a file of the machine's own: no BIOS, no stateless or writable combined image.
bool has_own_variables(pugi::xml_node os);

/// Removes every child element of this name.
void remove_children(pugi::xml_node parent, const char* name);

/// The <disk> with this target; a null node when there is none.
pugi::xml_node find_disk(pugi::xml_node devices, std::string_view target);

/// Adds a read-only virtio disk of type file on the first free vdX, after the other disks.
void append_seed(pugi::xml_node devices, std::string_view path);

/// Prints as libvirt does: two spaces, single quotes, no declaration.
std::string print(const pugi::xml_document& tree);

}  // namespace kld::virt
