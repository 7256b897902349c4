#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "app/commands.h"
#include "app/status.h"
#include "app/verify.h"

namespace slipstream::app {
namespace {

std::string hexadecimal(const std::vector<std::byte>& bytes) {
  std::string out;
  for (const std::byte each : bytes) out += fmt::format("{:02x}", std::to_integer<unsigned>(each));
  return out;
}

const char* to_string(Difference::Kind kind) {
  switch (kind) {
    case Difference::Kind::kBytes:
      return "bytes";
    case Difference::Kind::kBlock:
      return "block";
    case Difference::Kind::kLedgers:
      return "ledgers";
    case Difference::Kind::kMissing:
      return "missing";
  }
  return "";
}

Json difference_json(const Difference& found, const wal::SegmentLayout& layout) {
  Json out = {{"kind", to_string(found.kind)},
              {"at", slipstream::to_string(found.at)},
              {"offset_in_segment", layout.offset_of(found.at)},
              {"left_file", found.left_file},
              {"right_file", found.right_file}};
  if (found.kind == Difference::Kind::kBytes)
    out["left_bytes"] = hexadecimal(found.left), out["right_bytes"] = hexadecimal(found.right);
  if (found.kind == Difference::Kind::kMissing) out["missing_in"] = found.missing_in;
  return out;
}

Json verification_json(const Verification& done, const LogCopy& left, const LogCopy& right) {
  Json out = {{"equal", !done.difference},
              {"left", left.name()},
              {"right", right.name()},
              {"begin", slipstream::to_string(done.compared.begin)},
              {"end", slipstream::to_string(done.compared.end)},
              {"segments", done.segments},
              {"by_ledger", done.by_ledger},
              {"left_out", done.left_out},
              {"ends_early", done.ends_early}};
  out["difference"] = done.difference ? difference_json(*done.difference, left.layout()) : Json();
  return out;
}

std::string sentence(const Difference& found, const wal::SegmentLayout& layout) {
  const std::string at =
      fmt::format("{} (offset {} of its segment)", slipstream::to_string(found.at), layout.offset_of(found.at));
  switch (found.kind) {
    case Difference::Kind::kBytes:
      return fmt::format("they differ first at {}\n  {}  in {}\n  {}  in {}", at, hexadecimal(found.left),
                         found.left_file, hexadecimal(found.right), found.right_file);
    case Difference::Kind::kBlock:
      return fmt::format("they differ first in the 64 KiB at {}, as their digests say", at);
    case Difference::Kind::kLedgers:
      return fmt::format("the bytes are equal, but the ledgers differ first in the 64 KiB at {}: one copy changed", at);
    case Difference::Kind::kMissing:
      return fmt::format("{} has nothing at {}, but WAL before and behind", found.missing_in, at);
  }
  return "";
}

Error difference_error(const Difference& found, const LogCopy& left, const LogCopy& right) {
  return {ExitCode::kDirectory, sentence(found, left.layout()), left.name() + " and " + right.name(),
          "find out which copy changed: slipstream position --check DIRECTORY compares a stopped replica with its own "
          "ledgers, pg_waldump names a record that is damaged; then replace that copy (docs/runbook.md)"};
}

void print_progress(Lsn at, LsnRange all) {
  static auto shown = std::chrono::steady_clock::time_point{};
  const auto now = std::chrono::steady_clock::now();
  const bool last = at >= all.end;
  if (now - shown < std::chrono::milliseconds(200) && !last) return;
  shown = now;
  const double part = static_cast<double>((at - all.begin).value) / static_cast<double>(all.size().value);
  std::fprintf(stderr, "\r%3.0f %%  %s of %s%s", part * 100, slipstream::to_string(at).c_str(),
               slipstream::to_string(all).c_str(), last ? "\r\033[K" : "");
}

}  // namespace

int verify_command(const VerifyArguments& arguments) {
  auto left = LogCopy::open(arguments.left);
  if (!left) return report_error(left.error());
  auto right = LogCopy::open(arguments.right);
  if (!right) return report_error(right.error());
  for (const LogCopy* copy : {&*left, &*right})
    if (!copy->note().empty()) std::fprintf(stderr, "note: %s: %s\n", copy->name().c_str(), copy->note().c_str());
  VerifyOptions options;
  options.bytes = arguments.bytes;
  if (isatty(STDERR_FILENO) != 0 && !arguments.json) options.progress = print_progress;
  const auto done = verify(*left, *right, options);
  if (!done) return report_error(done.error());
  if (arguments.json) {
    std::printf("%s\n", verification_json(*done, *left, *right).dump(2).c_str());
    return done->difference ? static_cast<int>(ExitCode::kDirectory) : 0;
  }
  std::printf("equal     %s, %zu segments: %zu by their ledgers, %zu byte by byte\n",
              slipstream::to_string(done->compared).c_str(), done->segments, done->by_ledger,
              done->segments - done->by_ledger);
  if (done->left_out > 0)
    std::printf("left out  %zu segments that were removed meanwhile, or have no ledger yet\n", done->left_out);
  if (!done->ends_early.empty())
    std::printf("note      the WAL of %s ends at %s\n", done->ends_early.c_str(),
                slipstream::to_string(done->compared.end).c_str());
  return done->difference ? report_error(difference_error(*done->difference, *left, *right)) : 0;
}

}  // namespace slipstream::app
