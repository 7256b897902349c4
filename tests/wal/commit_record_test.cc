#include "wal/commit_record.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "wal/scanner.h"

namespace slipstream::wal {
namespace {

constexpr std::uint8_t kRmXact = 1, kCommit = 0x00, kCommitPrepared = 0x30, kAbort = 0x20, kHasFlags = 0x80;
constexpr std::uint32_t kApplyFeedback = 1u << 29;

std::vector<std::byte> body(std::uint32_t flags, std::vector<std::byte> before = {std::byte{255}, std::byte{12}}) {
  std::vector<std::byte> out = std::move(before);
  out.insert(out.end(), 8, std::byte{0xff});  // The time.
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<std::byte>(flags >> (8 * i)));
  return out;
}

bool awaits(std::uint8_t resource, std::uint8_t info, const std::vector<std::byte>& bytes, std::size_t cut = 1) {
  CommitRecord record;
  record.begin(resource, info);
  for (std::size_t at = 0; at < bytes.size(); at += cut)
    record.on_body(std::span(bytes).subspan(at, std::min(cut, bytes.size() - at)));
  return record.awaits_apply();
}

TEST(CommitRecord, SaysWhichCommitsAreWaitedForUntilApplied) {
  EXPECT_TRUE(awaits(kRmXact, kCommit | kHasFlags, body(kApplyFeedback)));
  EXPECT_TRUE(awaits(kRmXact, kCommitPrepared | kHasFlags, body(kApplyFeedback | 3)));
  EXPECT_FALSE(awaits(kRmXact, kCommit | kHasFlags, body(~kApplyFeedback)));
  EXPECT_FALSE(awaits(kRmXact, kCommit, body(kApplyFeedback)));
  EXPECT_FALSE(awaits(kRmXact, kAbort | kHasFlags, body(kApplyFeedback)));
  EXPECT_FALSE(awaits(10, kCommit | kHasFlags, body(kApplyFeedback)));
}

TEST(CommitRecord, FindsTheFlagsBehindAnOriginATopLevelTransactionAndALongLength) {
  std::vector<std::byte> before = {
      std::byte{253}, {}, {}, std::byte{252}, {}, {}, {}, {}, std::byte{254}, {}, {}, {}, {}};
  EXPECT_TRUE(awaits(kRmXact, kCommit | kHasFlags, body(kApplyFeedback, before)));
  EXPECT_FALSE(awaits(kRmXact, kCommit | kHasFlags, body(~kApplyFeedback, before)));
}

TEST(CommitRecord, DoesNotDependOnHowTheBytesAreCut) {
  std::vector<std::byte> bytes = body(kApplyFeedback);
  bytes.resize(300);
  for (std::size_t cut = 1; cut < 40; ++cut) EXPECT_TRUE(awaits(kRmXact, kCommit | kHasFlags, bytes, cut)) << cut;
}

TEST(CommitRecord, IsNoneWhenTooShort) {
  const auto whole = body(kApplyFeedback);
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes)
    EXPECT_FALSE(
        awaits(kRmXact, kCommit | kHasFlags, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)}));
}

TEST(CommitRecord, ForgetsTheRecordBefore) {
  CommitRecord record;
  record.begin(kRmXact, kCommit | kHasFlags);
  record.on_body(body(kApplyFeedback));
  record.begin(kRmXact, kCommit | kHasFlags);
  EXPECT_FALSE(record.awaits_apply());
}

// Commits of sixty rows each at local, remote_apply and on, at the begin of a 1 MiB segment, of each version that is
// called supported; the figures are its pg_waldump's (tests/golden/wal/make).
TEST(CommitRecord, IsFoundInWhatPostgreSQLWrote) {
  for (const std::uint32_t version : kSupportedVersions) {
    const std::string name =
        fmt::format("{}/tests/golden/wal/postgresql_{}_three_levels", SLIPSTREAM_SOURCE_DIR, version);
    std::ifstream file(name, std::ios::binary), expected(name + ".expected");
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    ASSERT_FALSE(bytes.empty()) << name;
    std::string begin, records, end, applied;
    ASSERT_TRUE(expected >> begin >> records >> end >> applied) << name;
    const auto at = [](const std::string& hexadecimal) { return Lsn{std::stoull(hexadecimal, nullptr, 16)}; };
    Scanner scanner(SegmentLayout(ByteCount{1u << 20}), at(begin), Scanner::Start::kPage, {});
    scanner.on_bytes(std::as_bytes(std::span(bytes)));
    EXPECT_EQ(version_of_magic(scanner.page_magic()), std::to_string(version));
    EXPECT_EQ(scanner.fault(), ScanFault::kEnd);
    EXPECT_EQ(scanner.records(), std::stoull(records));
    EXPECT_EQ(scanner.valid_end(), at(end));
    EXPECT_EQ(scanner.apply_awaited_end(), at(applied));
  }
}

}  // namespace
}  // namespace slipstream::wal
