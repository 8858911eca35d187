// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: the corpus given, then mutations of it and of built-in seeds. The same seed
// gives the same inputs everywhere.
//
//   fuzz_NAME [--runs N] [--seed S] [FILE or DIRECTORY]…
//
// A crash leaves the input at work behind, in fuzz_NAME.input.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
// There in a build with a sanitizer, which ends the process itself.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Random = std::mt19937_64;

constexpr std::size_t kLongest = 1 << 16;

/// What the parsers of this project know, as something to grow from; and what parsers in general fear.
const std::vector<std::string>& seeds() {
  static const std::vector<std::string> all = {
      "",
      "0",
      "18446744073709551616",
      "-1",
      "512M",
      "2026-04-04T14:35:00Z",
      "hourly=48,daily=7,weekly=4,monthly=1,last=10",
      "none",
      "web@clone-2026-04-04T14:35:00Z.2",
      std::string("a\0b", 3),
      "rpool/vms/web\tvolume\t7\t34\trpool/vms/"
      "golden@s\t1\t2\t21474836480\t65536\t0\t0\t1.91\t-\t-\t-\tdev\t-\t-\t5\tweb\t"
      "root\tu\tgolden@s\ttrue\t-\t-\n",
      "rpool/vms/golden@s\t77\t90\t1775313300\t0\trpool/vms/web,rpool/vms/x\thand\tcrash\tu\n",
      "rpool/vms/golden@s\t77\t90\t1775313300\t0\t-\t8192\t1298112512\t8192\thand\tcrash\tu\n",
      "rpool\t64424509440\t3006477312\t61418032128\tONLINE\toff\n",
      R"({"act":"rename-dataset","from":"a/b","guid":7,"to":"a/c"})",
      R"({"act":"write-files","files":[{"path":"/x","content":"y","existed":true,"previous":"z"}]})",
      R"({"act":"clone-datasets","clones":[{"snapshot":"a@b","name":"c","properties":{"k":"v"}}]})",
      R"({"act":"stop-domain","domain":{"name":"web","uuid":"u"},"graceful_seconds":60})",
      "<domain type='kvm'><name>web</name><devices><disk type='block' device='disk'><source dev='/dev/zvol/a/b'/>"
      "<target dev='vda' bus='virtio'/></disk></devices></domain>",
  };
  return all;
}

std::size_t below(Random& random, std::size_t limit) {
  return limit == 0 ? 0 : static_cast<std::size_t>(random() % limit);
}

char any_byte(Random& random) {
  constexpr char likely[] = "\t\n\0{}[]\":,@/.-<>0123456789xZ\xff";
  return below(random, 2) == 0 ? likely[below(random, sizeof likely - 1)] : static_cast<char>(random() & 0xffU);
}

/// One to eight small changes: what a mutation engine does, without its feedback.
std::string mutated(std::string text, const std::vector<std::string>& corpus, Random& random) {
  for (std::size_t changes = 1 + below(random, 8); changes > 0; --changes) {
    const std::size_t at = below(random, text.size() + 1);
    const std::size_t length = below(random, std::min<std::size_t>(text.size() - at, 32) + 1);
    switch (below(random, 7)) {
      case 0:
        if (at < text.size()) text[at] = any_byte(random);
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(random, 8)));
        break;
      case 2:
        text.insert(at, 1, any_byte(random));
        break;
      case 3:
        text.erase(at, length);
        break;
      case 4:
        text.insert(below(random, text.size() + 1), text.substr(at, length));
        break;
      case 5:
        text.resize(at);
        break;
      default: {
        const auto& other = corpus[below(random, corpus.size())];
        const std::size_t from = below(random, other.size() + 1);
        text.insert(at, other.substr(from, below(random, other.size() - from + 1)));
      }
    }
    if (text.size() > kLongest) text.resize(kLongest);
  }
  return text;
}

std::string left_behind;               // name of the file
const std::string* at_work = nullptr;  // while the target runs

void leave_input() {
  if (at_work == nullptr) return;
  std::ofstream(left_behind, std::ios::binary | std::ios::trunc) << *at_work;
  std::fprintf(stderr, "the input is in %s\n", left_behind.c_str());
  at_work = nullptr;
}

extern "C" void leave_input_at(int signal) {
  leave_input();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void watch_for_crashes() {
  std::signal(SIGABRT, leave_input_at);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(leave_input);
  } else {
    std::signal(SIGSEGV, leave_input_at);
  }
}

void run(const std::string& input) {
  at_work = &input;
  // A copy of exactly this size, so that a read past the end is seen.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  at_work = nullptr;
}

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return text.str();
}

unsigned long long number(const char* text) {
  char* end = nullptr;
  const auto value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0') {
    std::fprintf(stderr, "'%s' is no number\n", text);
    std::exit(2);
  }
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned long long runs = 0;
  unsigned long long seed = 1;
  std::vector<std::string> corpus;
  for (int at = 1; at < argc; ++at) {
    const std::string word = argv[at];
    if ((word == "--runs" || word == "--seed") && at + 1 < argc) {
      (word == "--runs" ? runs : seed) = number(argv[++at]);
    } else if (std::filesystem::is_directory(word)) {
      std::vector<std::filesystem::path> paths;
      for (const auto& entry : std::filesystem::recursive_directory_iterator(word)) {
        if (entry.is_regular_file()) paths.push_back(entry.path());
      }
      std::sort(paths.begin(), paths.end());
      for (const auto& path : paths) corpus.push_back(contents(path));
    } else {
      corpus.push_back(contents(word));
    }
  }
  left_behind = std::filesystem::path(argv[0]).filename().string() + ".input";
  const std::size_t given = corpus.size();
  corpus.insert(corpus.end(), seeds().begin(), seeds().end());
  watch_for_crashes();
  for (const auto& input : corpus) run(input);
  Random random(seed);
  for (unsigned long long done = 0; done < runs; ++done) {
    run(mutated(corpus[below(random, corpus.size())], corpus, random));
  }
  std::printf("%zu files, %zu seeds, %llu mutations of seed %llu\n", given, seeds().size(), runs, seed);
  return 0;
}
