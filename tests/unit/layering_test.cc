// SPDX-License-Identifier: Apache-2.0
// The rules of the architecture page that a reader of the sources can check.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace kld {
namespace {

struct Source {
  std::string path;   ///< "plan/view.h"
  std::string layer;  ///< "plan"; empty for main.cc
  std::string text;   ///< without comments
};

/// Comments and the insides of strings go; what #include names stays.
std::string without_comments(const std::string& text) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const bool include = line.starts_with("#include");
    bool in_string = false;
    for (std::size_t at = 0; at < line.size(); ++at) {
      if (!in_string && line.compare(at, 2, "//") == 0) break;
      if (line[at] == '"' && (at == 0 || line[at - 1] != '\'')) {
        in_string = !in_string;
        result += '"';
      } else if (in_string && !include) {
        if (line[at] == '\\') ++at;
      } else {
        result += line[at];
      }
    }
    result += '\n';
  }
  return result;
}

std::vector<Source> sources() {
  const auto root = std::filesystem::path(KLD_SOURCE_DIR) / "src";
  std::vector<Source> all;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const auto extension = entry.path().extension();
    if (!entry.is_regular_file() || (extension != ".cc" && extension != ".h")) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    const auto path = std::filesystem::relative(entry.path(), root).string();
    const auto slash = path.find('/');
    all.push_back({path, slash == std::string::npos ? "" : path.substr(0, slash), without_comments(text.str())});
  }
  std::sort(all.begin(), all.end(), [](const Source& a, const Source& b) { return a.path < b.path; });
  return all;
}

std::vector<std::string> matches(const std::string& text, const std::string& pattern) {
  std::vector<std::string> found;
  const std::regex expression(pattern);
  for (std::sregex_iterator at(text.begin(), text.end(), expression), end; at != end; ++at) {
    found.push_back(at->size() > 1 ? (*at)[1].str() : at->str());
  }
  return found;
}

/// What each layer may include, itself apart.
const std::map<std::string, std::set<std::string>>& allowed() {
  static const std::map<std::string, std::set<std::string>> layers = {
      {"base", {}},
      {"zfs", {"base"}},
      {"virt", {"base"}},
      {"plan", {"base", "zfs", "virt"}},
      {"run", {"base", "zfs", "virt", "plan"}},
      {"cli", {"base", "zfs", "virt", "plan", "run"}},
      {"cmd", {"base", "zfs", "virt", "plan", "run", "cli"}}};
  return layers;
}

TEST(Layering, FindsTheSources) {
  const auto all = sources();
  for (const auto& [layer, below] : allowed()) {
    const auto count = std::count_if(all.begin(), all.end(), [&](const Source& s) { return s.layer == layer; });
    EXPECT_GT(count, 0) << layer;
  }
}

TEST(Layering, EachIncludesOnlyWhatIsBelow) {
  for (const auto& source : sources()) {
    if (source.layer.empty()) continue;
    const auto layer = allowed().find(source.layer);
    ASSERT_NE(layer, allowed().end()) << source.path << ": say in this test what " << source.layer << "/ may include";
    for (const auto& included : matches(source.text, "#include \"([^\"/]+)/[^\"]*\"")) {
      EXPECT_TRUE(included == source.layer || layer->second.contains(included))
          << source.path << " includes " << included;
    }
    EXPECT_EQ(matches(source.text, "#include \"([^\"/]*|\\.\\.[^\"]*)\""), std::vector<std::string>())
        << source.path << ": includes are from src/, as in \"base/error.h\"";
  }
}

TEST(Layering, LibvirtAndZfsStayInTheirLayers) {
  for (const auto& source : sources()) {
    const auto libvirt = matches(source.text, "#include <libvirt/[^>]*>");
    const auto zfs = matches(source.text, "#include <(?:libzfs|libnvpair|sys/nvpair|sys/fs/zfs|libzfs_core)[^>]*>");
    if (source.layer != "virt") {
      EXPECT_EQ(libvirt, std::vector<std::string>()) << source.path;
    }
    if (source.layer != "zfs") {
      EXPECT_EQ(zfs, std::vector<std::string>()) << source.path;
    }
  }
}

TEST(Layering, PlansAreComputedWithoutInputOrOutput) {
  const std::string forbidden =
      "#include "
      "<(?:filesystem|iostream|fstream|cstdio|unistd\\.h|fcntl\\.h|thread|sys/[^>]*|random|libvirt[^>]*|libzfs[^>]*)>"
      "|#include \"zfs/(?:change|mount|nvlist)\\.h\""
      "|std::filesystem|\\b(?:run_process|run_checked|fopen|getenv|system_clock|steady_clock|random_device|time|"
      "gettimeofday)\\("
      "|\\b(?:list_datasets|list_origins|list_snapshots|find_pool|dataset_guids?|local_property|holders|await_"
      "devices)\\("
      "|\\bConnection\\b";
  for (const auto& source : sources()) {
    if (source.layer == "plan") {
      EXPECT_EQ(matches(source.text, forbidden), std::vector<std::string>()) << source.path;
    }
  }
}

TEST(Layering, OnlyCommandsPrint) {
  const std::set<std::string> may = {"base/terminal.cc"};
  const std::string printing =
      "\\b(?:std::cout|std::cerr|std::clog|stdout|stderr|printf|puts|perror|fmt::print|std::print)\\b";
  for (const auto& source : sources()) {
    if (source.layer.empty() || source.layer == "cmd" || source.layer == "cli" || may.contains(source.path)) continue;
    EXPECT_EQ(matches(source.text, printing), std::vector<std::string>()) << source.path;
  }
}

TEST(Layering, NoShell) {
  for (const auto& source : sources()) {
    EXPECT_EQ(matches(source.text, "\\b(?:system|popen|execl|execlp)\\("), std::vector<std::string>()) << source.path;
  }
}

TEST(Layering, FoldersAndFilesAreNamedByWhatTheyHold) {
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::filesystem::path(KLD_SOURCE_DIR) / "src")) {
    const auto name = entry.path().stem().string();
    for (const std::string word : {"utils", "util", "common", "misc", "manager", "helpers"})
      EXPECT_NE(name, word) << entry.path();
  }
}

TEST(Layering, EachFileNamesItsLicence) {
  const auto root = std::filesystem::path(KLD_SOURCE_DIR);
  for (const auto* folder : {"src", "tests"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".cc" && extension != ".h") continue;
      std::ifstream file(entry.path());
      std::string first;
      std::getline(file, first);
      EXPECT_EQ(first, "// SPDX-License-Identifier: Apache-2.0") << entry.path();
    }
  }
}

}  // namespace
}  // namespace kld
