#include "app/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace slipstream::app {
namespace {

using Digests = std::vector<wal::BlockDigest>;
constexpr std::size_t kShownBytes = 16;

Error no_match(const LogCopy& left, const LogCopy& right, std::string what, std::string remedy) {
  return {ExitCode::kDirectory, std::move(what), left.name() + " and " + right.name(), std::move(remedy)};
}

class Comparing {
 public:
  Comparing(LogCopy& left, LogCopy& right, const VerifyOptions& options)
      : left_(left), right_(right), options_(options) {}

  std::expected<Verification, Error> run() {
    if (auto fit = same_cluster(); !fit) return std::unexpected(fit.error());
    const LsnRange left = left_.range(), right = right_.range();
    all_ = {std::max(left.begin, right.begin), std::min(left.end, right.end)};
    if (all_.empty())
      return std::unexpected(no_match(
          left_, right_, fmt::format("they have nothing in common: {} and {}", to_string(left), to_string(right)),
          "give copies whose positions overlap"));
    out_.compared = {all_.begin, all_.begin};
    while (out_.compared.end < all_.end && !out_.difference && out_.ends_early.empty()) {
      const Lsn at = out_.compared.end;
      if (auto done = segment({at, std::min(all_.end, layout().segment_end(at))}); !done)
        return std::unexpected(done.error());
      if (options_.progress) options_.progress(out_.compared.end, all_);
    }
    if (out_.segments == 0 && !out_.difference)
      return std::unexpected(
          no_match(left_, right_, "nothing was left to compare: WAL was removed meanwhile", "try again"));
    return out_;
  }

 private:
  const wal::SegmentLayout& layout() const { return left_.layout(); }

  std::expected<void, Error> same_cluster() const {
    if (left_.layout().segment_size() != right_.layout().segment_size())
      return std::unexpected(
          no_match(left_, right_, "their segments differ in size: these are two clusters' logs", "give copies of one"));
    if (left_.system() && right_.system() && *left_.system() != *right_.system())
      return std::unexpected(no_match(
          left_, right_,
          fmt::format("these are two clusters' logs: systems {} and {}", left_.system()->value, right_.system()->value),
          "give copies of one"));
    return {};
  }

  std::expected<void, Error> segment(LsnRange range) {
    const std::uint64_t number = layout().number_of(range.begin);
    const auto left = left_.ledger(number), right = right_.ledger(number);
    if (!left) return std::unexpected(left.error());
    if (!right) return std::unexpected(right.error());
    const bool both_ledgers = *left && *right && (*left)->timeline == (*right)->timeline;
    const bool both_bytes = left_.has_bytes() && right_.has_bytes();
    const bool same_ledgers = both_ledgers && (*left)->blocks == (*right)->blocks;
    if (same_ledgers && !(options_.bytes && both_bytes)) {
      ++out_.by_ledger;
    } else {
      if (!both_bytes) range.end = align_down(range.end, wal::kBlockBytes);  // Ledgers have whole blocks.
      if (!compare(digests_of(left_, *left, range), digests_of(right_, *right, range), range)) return {};
      if (both_ledgers && ledgers_differ(**left, **right, range.end)) return {};
    }
    ++out_.segments;
    out_.compared.end = segment_or_all_end(range);
    return {};
  }

  Lsn segment_or_all_end(LsnRange range) const { return std::min(all_.end, layout().segment_end(range.begin)); }

  static Digests digests_of(LogCopy& copy, const std::optional<wal::Ledger>& ledger, LsnRange range) {
    if (copy.has_bytes()) return copy.digests(range);
    Digests out = ledger ? ledger->blocks : Digests{};
    std::erase_if(out, [&](const wal::BlockDigest& each) { return each.range.end > range.end; });
    return out;
  }

  // False: the range is not compared to its end.
  bool compare(const Digests& left, const Digests& right, LsnRange range) {
    Lsn at = range.begin;
    for (std::size_t i = 0; at < range.end; ++i) {
      if (i >= left.size()) return lacks(left_, at, range), false;
      if (i >= right.size()) return lacks(right_, at, range), false;
      if (left[i].digest != right[i].digest && !same_after_all(left[i].range)) return false;
      at = left[i].range.end;
    }
    return true;
  }

  void leave_out(LsnRange range) {
    ++out_.left_out;
    out_.compared.end = segment_or_all_end(range);
    if (out_.segments == 0) out_.compared.begin = out_.compared.end;
  }

  void lacks(const LogCopy& copy, Lsn at, LsnRange range) {
    if (!copy.has_bytes() || at < copy.range().begin) return leave_out(range);
    Difference& found = differ(Difference::Kind::kMissing, at);
    found.missing_in = copy.name();
  }

  Difference& differ(Difference::Kind kind, Lsn at) {
    const auto file = [&](const LogCopy& copy) {
      const auto held = copy.segment(layout().number_of(at));
      return held ? held->file.string() : std::string();
    };
    out_.compared.end = at;
    return out_.difference.emplace(Difference{kind, at, "", {}, {}, file(left_), file(right_)});
  }

  // A block whose digests differ. True: what was read had been removed, or put to another use, meanwhile.
  bool same_after_all(LsnRange block) {
    for (LogCopy* copy : {&left_, &right_})
      if (copy->has_bytes() && block.begin < copy->range().begin) return leave_out(block), false;
    if (!left_.has_bytes() || !right_.has_bytes()) {
      if (!ends(block.begin, block.end)) differ(Difference::Kind::kBlock, block.begin);
      return false;
    }
    const auto left = left_.bytes(block), right = right_.bytes(block);
    const auto first = std::ranges::mismatch(left, right);
    if (first.in1 == left.end() && first.in2 == right.end()) return true;
    const Lsn at = block.begin + ByteCount{static_cast<std::uint64_t>(first.in1 - left.begin())};
    if (ends(at, at)) return false;
    Difference& found = differ(Difference::Kind::kBytes, at);
    const auto shown = [](auto begin, auto end) {
      return std::vector<std::byte>(begin, begin + std::min<std::ptrdiff_t>(end - begin, kShownBytes));
    };
    found.left = shown(first.in1, left.end()), found.right = shown(first.in2, right.end());
    return false;
  }

  // Whether a copy whose end nobody tells ends before `end`: what differs from `at` on is no WAL of this log.
  bool ends(Lsn at, Lsn end) {
    for (LogCopy* copy : {&left_, &right_}) {
      if (!copy->has_bytes() || copy->end_is_known()) continue;
      const LogCopy::Ending ending = copy->ending_near(at);
      if (ending.goes_on || ending.end > end) continue;
      out_.ends_early = copy->name();
      out_.compared.end = std::max(out_.compared.begin, ending.end);
      if (out_.compared.end > layout().segment_begin(at)) ++out_.segments;
      return true;
    }
    return false;
  }

  // Although the bytes are equal up to `end`.
  bool ledgers_differ(const wal::Ledger& left, const wal::Ledger& right, Lsn end) {
    const auto first = std::ranges::mismatch(left.blocks, right.blocks);
    if (first.in1 == left.blocks.end() || first.in1->range.end > end) return false;
    differ(Difference::Kind::kLedgers, first.in1->range.begin);
    return true;
  }

  LogCopy& left_;
  LogCopy& right_;
  const VerifyOptions& options_;
  LsnRange all_;
  Verification out_;
};

}  // namespace

std::expected<Verification, Error> verify(LogCopy& left, LogCopy& right, const VerifyOptions& options) {
  return Comparing(left, right, options).run();
}

}  // namespace slipstream::app
