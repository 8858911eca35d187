// SPDX-License-Identifier: Apache-2.0
#include "virt/definition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/size.h"
#include "virt/document.h"

namespace kld::virt {

namespace {

constexpr std::size_t largest_text = 4 * MiB;
// libvirt's own nests less than ten deep; the limit keeps every recursion over the tree short.
constexpr int deepest_nesting = 64;

[[noreturn]] void refuse(std::string_view why) { throw Error(fmt::format("not a domain definition: {}", why)); }

void check_text(std::string_view xml) {
  if (xml.size() > largest_text) refuse(fmt::format("{} is more than {}", exact_size(xml.size()), "4M"));
  if (xml.find('\0') != std::string_view::npos) refuse("it holds a NUL byte");
}

void check_depth(pugi::xml_node root) {
  // xml_tree_walker is iterative, so that a nesting bomb is counted without climbing it on our stack.
  struct Depth : pugi::xml_tree_walker {
    bool for_each(pugi::xml_node&) override { return depth() < deepest_nesting; }
  } walker;
  if (!root.traverse(walker)) refuse(fmt::format("it nests more than {} deep", deepest_nesting));
}

void check_root(const pugi::xml_document& tree) {
  int roots = 0;
  for (const pugi::xml_node node : tree) {
    if (node.type() == pugi::node_doctype) refuse("it has a DOCTYPE");
    if (node.type() == pugi::node_element) ++roots;
  }
  if (roots != 1) refuse(fmt::format("it has {} root elements", roots));
  if (std::strcmp(tree.document_element().name(), "domain") != 0)
    refuse(fmt::format("its root is <{}>", tree.document_element().name()));
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Appends the words of `text` to `words`, one space between any two.
void append_words(std::string& words, std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    while (i < text.size() && is_space(text[i])) ++i;
    const std::size_t start = i;
    while (i < text.size() && !is_space(text[i])) ++i;
    if (i == start) continue;
    if (!words.empty()) words += ' ';
    words += text.substr(start, i - start);
  }
}

/// The words directly inside an element; text that only a dropped comment or a CDATA boundary parts is one text.
std::string words_of(pugi::xml_node element) {
  std::string words;
  std::string run;
  for (const pugi::xml_node node : element) {
    if (node.type() == pugi::node_pcdata || node.type() == pugi::node_cdata) {
      run += node.value();
    } else {
      append_words(words, std::exchange(run, {}));
    }
  }
  append_words(words, run);
  return words;
}

using Attributes = std::vector<std::pair<std::string_view, std::string_view>>;

Attributes attributes_of(pugi::xml_node node) {
  Attributes attributes;
  for (const pugi::xml_attribute attribute : node.attributes())
    attributes.emplace_back(attribute.name(), attribute.value());
  std::sort(attributes.begin(), attributes.end());
  return attributes;
}

pugi::xml_node next_element(pugi::xml_node node) {
  while (node && node.type() != pugi::node_element) node = node.next_sibling();
  return node;
}

bool same_tree(pugi::xml_node a, pugi::xml_node b) {
  if (std::strcmp(a.name(), b.name()) != 0 || attributes_of(a) != attributes_of(b) || words_of(a) != words_of(b))
    return false;
  pugi::xml_node x = next_element(a.first_child());
  pugi::xml_node y = next_element(b.first_child());
  for (; x && y; x = next_element(x.next_sibling()), y = next_element(y.next_sibling()))
    if (!same_tree(x, y)) return false;
  return !x && !y;
}

}  // namespace

Definition Definition::parse(std::string_view xml) {
  check_text(xml);
  auto document = std::make_unique<Document>();
  // With the DOCTYPE refused no entity can be declared: what is left of one is plain text, never expanded.
  const pugi::xml_parse_result result = document->tree.load_buffer(
      xml.data(), xml.size(), pugi::parse_default | pugi::parse_doctype, pugi::encoding_utf8);
  if (!result) refuse(fmt::format("{} at byte {}", result.description(), result.offset));
  check_root(document->tree);
  check_depth(document->tree);
  return Definition(std::move(document));
}

Definition::Definition(std::unique_ptr<Document> document) : document_(std::move(document)) {}
Definition::Definition(const Definition& other) : document_(std::make_unique<Document>()) {
  document_->tree.reset(other.document_->tree);
}
Definition& Definition::operator=(const Definition& other) { return *this = Definition(other); }
Definition::Definition(Definition&&) noexcept = default;
Definition& Definition::operator=(Definition&&) noexcept = default;
Definition::~Definition() = default;

std::string Definition::xml() const { return print(document_->tree); }

bool Definition::same_as(const Definition& other) const {
  return same_tree(document_->domain(), other.document_->domain());
}

bool Definition::same_hardware(const Definition& other) const {
  // Each with its controllers in one order; what else there is stays where it is.
  const auto sorted = [](const Definition& definition) {
    Definition copy(definition);
    pugi::xml_node devices = copy.document_->domain().child("devices");
    std::map<std::string, pugi::xml_node> controllers;
    for (const pugi::xml_node controller : devices.children("controller")) {
      pugi::xml_document alone;
      alone.append_copy(controller);
      controllers[print(alone)] = controller;
    }
    for (const auto& [text, controller] : controllers) devices.append_move(controller);
    return copy;
  };
  return sorted(*this).same_as(sorted(other));
}

std::string print(const pugi::xml_document& tree) {
  struct Writer : pugi::xml_writer {
    std::string text;
    void write(const void* data, std::size_t size) override { text.append(static_cast<const char*>(data), size); }
  } writer;
  tree.save(writer, "  ", pugi::format_indent | pugi::format_no_declaration | pugi::format_attribute_single_quote,
            pugi::encoding_utf8);
  return std::move(writer.text);
}

pugi::xml_node child_or_new(pugi::xml_node parent, const char* name) {
  const pugi::xml_node child = parent.child(name);
  return child ? child : parent.append_child(name);
}

void set_attribute(pugi::xml_node node, const char* name, std::string_view value) {
  pugi::xml_attribute attribute = node.attribute(name);
  if (!attribute) attribute = node.append_attribute(name);
  attribute.set_value(std::string(value).c_str());
}

void set_text(pugi::xml_node node, std::string_view text) {
  node.remove_children();
  node.append_child(pugi::node_pcdata).set_value(std::string(text).c_str());
}

bool has_value(pugi::xml_node node, const char* name, const char* value) {
  return std::strcmp(node.attribute(name).value(), value) == 0;
}

void remove_children(pugi::xml_node parent, const char* name) {
  while (parent.remove_child(name)) {
  }
}

pugi::xml_node find_disk(pugi::xml_node devices, std::string_view target) {
  for (const pugi::xml_node disk : devices.children("disk"))
    if (disk.child("target").attribute("dev").value() == target) return disk;
  return {};
}

}  // namespace kld::virt
