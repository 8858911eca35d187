// SPDX-License-Identifier: Apache-2.0
#include "run/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "base/error.h"

namespace kld::run {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = testing::TempDir() + "file-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~FileTest() override { fs::remove_all(directory_); }

  std::string at(const std::string& name) const { return directory_ + "/" + name; }
  void put(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(at(name)).parent_path());
    std::ofstream(at(name), std::ios::binary) << content;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(directory_)) {
      if (!entry.is_directory()) found.push_back(fs::relative(entry.path(), directory_));
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  static unsigned mode(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777U;
  }
  static auto inode(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_ino;
  }

  std::string directory_;
};

using Names = std::vector<std::string>;

TEST_F(FileTest, WhatIsWrittenIsRead) {
  for (const auto& content : {std::string(), std::string("a\0b\n", 4), std::string(300000, 'x')}) {
    write_file(at("f"), content, true);
    EXPECT_EQ(read_file(at("f")), content);
  }
  EXPECT_EQ(names(), Names{"f"});
}

TEST_F(FileTest, IsReplacedAsAWholeAndPrivate) {
  put("f", "old");
  ::chmod(at("f").c_str(), 0644);
  std::ifstream reader(at("f"));
  const auto before = inode(at("f"));
  write_file(at("f"), "new", true);
  EXPECT_NE(inode(at("f")), before) << "whoever has the old one open reads it to its end";
  EXPECT_EQ(mode(at("f")), 0600U);
  std::string seen;
  std::getline(reader, seen);
  EXPECT_EQ(seen, "old");
}

TEST_F(FileTest, ItsDirectoryIsMadePrivate) {
  write_file(at("seed/meta-data"), "x", true);
  EXPECT_EQ(mode(at("seed")), 0700U);
}

TEST_F(FileTest, AFailedWriteLeavesTheOldAndNothingElse) {
  fs::create_directory(at("d"));
  EXPECT_THROW(write_file(at("d"), "new", true), Error) << "a directory is in the way";
  EXPECT_THROW(write_file(at("missing/way/f"), "new", true), Error);
  EXPECT_EQ(names(), Names{});
}

// Clones of one source share its lock: they may save its definition at the same time.
TEST_F(FileTest, TwoWritersOfOneFileDoNotMeet) {
  const std::string one(200000, '1');
  const std::string two(200000, '2');
  const auto write_often = [&](const std::string& content) {
    for (int i = 0; i < 30; ++i) write_file(at("f"), content, true);
  };
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      write_often(two);
    } catch (const Error&) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  EXPECT_NO_THROW(write_often(one));
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  const auto content = read_file(at("f"));
  EXPECT_TRUE(content == one || content == two);
  EXPECT_EQ(names(), Names{"f"});
}

TEST_F(FileTest, MissingIsNothingAndTooLargeAnError) {
  EXPECT_EQ(read_file(at("none")), std::nullopt);
  put("f", "12345");
  EXPECT_EQ(read_file(at("f/below")), std::nullopt);
  EXPECT_EQ(read_file(at("f"), 5), "12345");
  EXPECT_THROW(read_file(at("f"), 4), Error);
}

TEST_F(FileTest, RemovedTwiceIsRemoved) {
  put("f", "x");
  remove_file(at("f"));
  EXPECT_NO_THROW(remove_file(at("f")));
  EXPECT_NO_THROW(remove_file(at("none/f")));
  EXPECT_EQ(names(), Names{});
}

TEST_F(FileTest, CopiesAFileWithItsMode) {
  put("vars", "firmware");
  ::chmod(at("vars").c_str(), 0640);
  put("copy", "longer than what is copied");
  copy_files(at("vars"), at("copy"));
  EXPECT_EQ(read_file(at("copy")), "firmware");
  EXPECT_EQ(mode(at("copy")), 0640U);
}

TEST_F(FileTest, CopiesADirectorysFiles) {
  put("tpm/tpm2/tpm2-00.permall", "keys");
  put("tpm/.lock", "");
  ::chmod(at("tpm/tpm2").c_str(), 0711);
  ::chmod(at("tpm/tpm2/tpm2-00.permall").c_str(), 0600);
  fs::create_directory(at("to"));
  copy_files(at("tpm"), at("to"));
  copy_files(at("tpm"), at("to"));
  EXPECT_EQ(read_file(at("to/tpm2/tpm2-00.permall")), "keys");
  EXPECT_EQ(mode(at("to/tpm2")), 0711U);
  EXPECT_TRUE(fs::exists(at("to/.lock")));
}

TEST_F(FileTest, CopyingNothingIsNothing) {
  EXPECT_NO_THROW(copy_files(at("none"), at("to")));
  EXPECT_EQ(names(), Names{});
}

TEST_F(FileTest, MovesAsideAndBack) {
  put("tpm/state", "keys");
  move_aside(at("tpm"), at("tpm.before-adopt"));
  EXPECT_EQ(names(), Names{"tpm.before-adopt/state"});
  EXPECT_NO_THROW(move_aside(at("tpm"), at("tpm.before-adopt"))) << "done already";
  fs::create_directory(at("tpm"));
  EXPECT_NO_THROW(move_aside(at("tpm.before-adopt"), at("tpm"))) << "an empty directory was a mount point";
  EXPECT_EQ(names(), Names{"tpm/state"});
}

TEST_F(FileTest, MovesOverNothingThatHoldsFiles) {
  put("a/f", "1");
  put("b/f", "2");
  EXPECT_THROW(move_aside(at("a"), at("b")), Error);
  EXPECT_EQ(read_file(at("a/f")), "1");
  EXPECT_EQ(read_file(at("b/f")), "2");
}

/// Every file of the image and its contents; the volume's name comes from the primary descriptor, 32 KiB in.
std::map<std::string, std::string> read_image(const std::string& path, std::string& volume) {
  std::map<std::string, std::string> files;
  struct Free {
    void operator()(archive* handle) const { archive_read_free(handle); }
  };
  const std::unique_ptr<archive, Free> image(archive_read_new());
  archive_read_support_format_iso9660(image.get());
  EXPECT_EQ(archive_read_open_filename(image.get(), path.c_str(), 65536), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  while (archive_read_next_header(image.get(), &entry) == ARCHIVE_OK) {
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    std::string content(static_cast<std::size_t>(archive_entry_size(entry)), '\0');
    EXPECT_EQ(archive_read_data(image.get(), content.data(), content.size()), static_cast<la_ssize_t>(content.size()));
    files[archive_entry_pathname(entry)] = content;
  }
  std::ifstream raw(path, std::ios::binary);
  raw.seekg(32768);
  std::string descriptor(2048, '\0');
  raw.read(descriptor.data(), 2048);
  EXPECT_EQ(descriptor.substr(0, 6), "\1CD001");
  volume = descriptor.substr(40, 32);
  volume.erase(volume.find_last_not_of(" \0") + 1);
  return files;
}

TEST_F(FileTest, ASeedIsAnImageThatCloudInitFinds) {
  const std::map<std::string, std::string> documents = {
      {"meta-data", "instance-id: \"iid-1\"\nlocal-hostname: \"web\"\n"},
      {"user-data", "#cloud-config\n" + std::string(70000, '#') + "\n"},
      {"network-config", "version: 2\n"},
      {"vendor-data", ""}};
  write_seed(at("seed.iso"), documents);
  std::string volume;
  EXPECT_EQ(read_image(at("seed.iso"), volume), documents);
  std::transform(volume.begin(), volume.end(), volume.begin(), [](char c) { return static_cast<char>(::tolower(c)); });
  EXPECT_EQ(volume, "cidata");
  EXPECT_EQ(mode(at("seed.iso")), 0600U);
  EXPECT_EQ(fs::file_size(at("seed.iso")) % 2048, 0U);
  EXPECT_EQ(names(), Names{"seed.iso"});
}

TEST_F(FileTest, ASeedIsReplaced) {
  write_seed(at("seed.iso"), {{"meta-data", "instance-id: 1\n"}});
  write_seed(at("seed.iso"), {{"meta-data", "instance-id: 2\n"}});
  std::string volume;
  EXPECT_EQ(read_image(at("seed.iso"), volume).at("meta-data"), "instance-id: 2\n");
}

TEST_F(FileTest, ASeedThatCannotBeWrittenIsAnError) {
  EXPECT_THROW(write_seed(at("none/seed.iso"), {{"meta-data", "x"}}), Error);
}

}  // namespace
}  // namespace kld::run
