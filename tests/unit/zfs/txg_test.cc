// SPDX-License-Identifier: Apache-2.0
#include "zfs/txg.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace kld::zfs {
namespace {

TEST(Txg, TheNewestIsFound) {
  std::ifstream file(KLD_SOURCE_DIR "/tests/unit/zfs/data/zfs-2.1-txgs.txt", std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(newest_txg(text.str()), 104U);
}

TEST(Txg, NothingIsMadeOfWhatIsNone) {
  EXPECT_EQ(newest_txg(""), std::nullopt);
  EXPECT_EQ(newest_txg("16 0 0x01 1 2 3 4\n"), std::nullopt);
  EXPECT_EQ(newest_txg("16 0 0x01 1 2 3 4\ntxg      birth            state\n"), std::nullopt);
  EXPECT_EQ(newest_txg("txg      birth\nnonsense\n12x 5\n7 5\n"), 7U);
}

}  // namespace
}  // namespace kld::zfs
