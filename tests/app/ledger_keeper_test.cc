#include "app/ledger_keeper.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "wal/io/ledger_files.h"

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;
const wal::SegmentLayout kLayout{ByteCount{1u << 20}};
constexpr std::uint64_t kFirst = 4;

class Place {
 public:
  Place() {
    char name[] = "/tmp/slipstream_ledger_XXXXXX";
    path_ = ::mkdtemp(name);
    std::filesystem::create_directory(wal());
  }
  ~Place() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path wal() const { return path_ / "wal"; }
  std::filesystem::path ledgers() const { return path_ / "ledger"; }
  void segment(std::uint64_t number, TimelineId timeline = {1}) const {
    const std::vector<std::byte> bytes(kLayout.segment_size().value, static_cast<std::byte>(number));
    EXPECT_TRUE(wal::io::durable_replace(wal() / kLayout.file_name(timeline, number), bytes));
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(ledgers(), ignored))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }
  // Waits until the ledgers are exactly these.
  bool has(const std::vector<std::string>& wanted) const {
    for (int i = 0; i < 1000 && names() != wanted; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ(names(), wanted);
    return names() == wanted;
  }

 private:
  std::filesystem::path path_;
};

std::string name(std::uint64_t number, TimelineId timeline = {1}) { return kLayout.file_name(timeline, number); }

LedgerKeeperOptions options(const Place& place, std::function<std::optional<CompleteLog>()> complete) {
  return {place.wal(), place.ledgers(), kLayout, std::move(complete), 10ms, 0ms};
}

// Lets several of the keeper's rounds pass.
void rounds(const std::atomic<int>& asked) {
  const int from = asked;
  for (int i = 0; i < 1000 && asked < from + 3; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_GE(asked, from + 3);
}

TEST(LedgerKeeper, MakesThoseOfWholeSegmentsInTheCompleteRangeAndNoOthers) {
  const Place place;
  for (std::uint64_t number = kFirst; number < kFirst + 5; ++number) place.segment(number);
  std::atomic<std::uint64_t> end{kLayout.begin_of(kFirst + 3).value - 1};
  std::atomic<int> asked{0};
  LedgerKeeper keeper(
      options(place, [&] { return ++asked, CompleteLog{{kLayout.begin_of(kFirst + 1), Lsn{end}}, {1}}; }));
  place.has({name(kFirst + 1)});
  rounds(asked);
  place.has({name(kFirst + 1)});
  ++end;
  place.has({name(kFirst + 1), name(kFirst + 2)});
  keeper.stop();
  const auto kept = wal::io::load_ledger(place.ledgers(), kLayout, {1}, kFirst + 2);
  ASSERT_TRUE(kept.has_value()) << kept.error().message();
  EXPECT_EQ(kept->blocks.size(), 16u);
  const auto checked = wal::io::check_segment({{1}, kFirst + 2, place.wal() / name(kFirst + 2)}, kLayout, *kept);
  EXPECT_EQ(checked->difference, std::nullopt);
}

TEST(LedgerKeeper, RemovesTheLedgerOfASegmentThatIsGoneOrNoLongerComplete) {
  const Place place;
  for (std::uint64_t number = kFirst; number < kFirst + 3; ++number) place.segment(number);
  std::atomic<std::uint64_t> end{kLayout.begin_of(kFirst + 3).value};
  LedgerKeeper keeper(options(place, [&] { return CompleteLog{{Lsn{0}, Lsn{end}}, {1}}; }));
  place.has({name(kFirst), name(kFirst + 1), name(kFirst + 2)});
  std::filesystem::remove(place.wal() / name(kFirst));
  place.has({name(kFirst + 1), name(kFirst + 2)});
  end = kLayout.begin_of(kFirst + 2).value;
  place.has({name(kFirst + 1)});
}

TEST(LedgerKeeper, RemovesNothingWhileTheSegmentsCannotBeListed) {
  const Place place;
  place.segment(kFirst);
  std::atomic<int> asked{0};
  LedgerKeeper keeper(
      options(place, [&] { return ++asked, CompleteLog{{Lsn{0}, kLayout.begin_of(kFirst + 1)}, {1}}; }));
  place.has({name(kFirst)});
  const auto away = place.wal().string() + "_away";
  std::filesystem::rename(place.wal(), away);
  rounds(asked);
  EXPECT_EQ(place.names(), std::vector<std::string>{name(kFirst)});
  std::filesystem::remove_all(away);
}

TEST(LedgerKeeper, GivesAForksSegmentALedgerOnlyInTheFileOfTheNewerTimeline) {
  const Place place;
  const Lsn fork = kLayout.begin_of(kFirst + 1) + ByteCount{0x3000};
  const std::string history = "1\t" + to_string(fork) + "\tpromoted\n";
  EXPECT_TRUE(wal::io::durable_replace(place.wal() / wal::history_file_name({2}), std::as_bytes(std::span(history))));
  place.segment(kFirst), place.segment(kFirst + 1), place.segment(kFirst + 1, {2}), place.segment(kFirst + 2, {2}),
      place.segment(kFirst + 2, {3});
  LedgerKeeper keeper(options(place, [&] { return CompleteLog{{Lsn{0}, kLayout.begin_of(kFirst + 3)}, {2}}; }));
  place.has({name(kFirst), name(kFirst + 1, {2}), name(kFirst + 2, {2})});
}

TEST(LedgerKeeper, DoesNothingWhileItIsNotKnownWhatIsComplete) {
  const Place place;
  place.segment(kFirst);
  std::atomic<int> asked{0};
  LedgerKeeper keeper(options(place, [&] { return ++asked, std::optional<CompleteLog>(); }));
  rounds(asked);
  EXPECT_TRUE(place.names().empty());
}

TEST(LedgerKeeper, TriesAgainAfterItsDirectoryCouldNotBeUsed) {
  const Place place;
  place.segment(kFirst);
  EXPECT_TRUE(wal::io::durable_replace(place.ledgers(), {}));  // A file is in the way.
  std::atomic<int> asked{0};
  LedgerKeeper keeper(
      options(place, [&] { return ++asked, CompleteLog{{Lsn{0}, kLayout.begin_of(kFirst + 1)}, {1}}; }));
  std::this_thread::sleep_for(100ms);
  std::filesystem::remove(place.ledgers());
  place.has({name(kFirst)});
  std::filesystem::remove_all(place.ledgers());
  place.has({name(kFirst)});
}

TEST(LedgerKeeper, StopsAtOnceBetweenTwoPieces) {
  const Place place;
  for (std::uint64_t number = kFirst; number < kFirst + 3; ++number) place.segment(number);
  auto slow = options(place, [] { return CompleteLog{{Lsn{0}, kLayout.begin_of(kFirst + 3)}, {1}}; });
  slow.pause = 1h;
  LedgerKeeper keeper(std::move(slow));
  std::this_thread::sleep_for(200ms);
  const auto from = std::chrono::steady_clock::now();
  keeper.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - from, 5s);
  EXPECT_TRUE(place.names().empty()) << "an unfinished ledger leaves nothing";
}

TEST(LedgerKeeper, RunsAtTheLowestPriorityAloneNotItsProcess) {
  const Place place;
  std::atomic<int> nice{-100};
  LedgerKeeper keeper(options(place, [&] {
    return nice = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())), std::optional<CompleteLog>();
  }));
  const int own = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
  for (int i = 0; i < 500 && nice == -100; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(nice, 19);
  EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())), own);
}

}  // namespace
}  // namespace slipstream::app
