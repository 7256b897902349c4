#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace slipstream::sim {
namespace {

constexpr const char* kHelp =
    "sim: runs the production nodes in a simulated world; everything follows from the seed.\n"
    "  sim --seeds A-B          each seed of the range; at the end counts of events, faults and checks\n"
    "  sim --seed N [--trace]   one seed; --trace prints what happens\n"
    "  sim --file FILE          the seeds a file names, one at the beginning of each line, # begins a comment\n"
    "  sim --seed N --twice     runs it twice and compares the hashes of what happened\n"
    "  --all-kinds              a fault kind or a check that did not occur is a failure\n"
    "  --json                   the counts as JSON\n"
    "Exit code: 0 all well, 1 a promise was broken, 2 the command line.\n";

struct Options {
  std::vector<std::uint64_t> seeds;
  bool trace = false, twice = false, json = false, all_kinds = false;
};

volatile std::uint64_t running_seed = 0;

// A CHECK of the product ends the process: say which seed it was.
void on_abort(int) {
  char line[64] = "sim: seed ";
  std::size_t at = 10;
  char digits[20];
  std::size_t count = 0;
  for (std::uint64_t n = running_seed; n > 0 || count == 0; n /= 10) digits[count++] = static_cast<char>('0' + n % 10);
  while (count > 0) line[at++] = digits[--count];
  std::memcpy(line + at, " ended the process\n", 19);
  (void)!::write(2, line, at + 19);
}

bool parse_number(std::string_view text, std::uint64_t& out) {
  if (text.empty() || text.find_first_not_of("0123456789") != text.npos || text.size() > 18) return false;
  out = std::strtoull(std::string(text).c_str(), nullptr, 10);
  return true;
}

bool add_range(std::string_view text, Options& out) {
  const std::size_t dash = text.find('-');
  std::uint64_t first = 0, last = 0;
  if (!parse_number(text.substr(0, dash), first)) return false;
  last = first;
  if (dash != text.npos && !parse_number(text.substr(dash + 1), last)) return false;
  for (std::uint64_t seed = first; seed <= last; ++seed) out.seeds.push_back(seed);
  return first <= last;
}

bool add_file(const char* path, Options& out) {
  std::ifstream file(path);
  if (!file) return false;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    if (words >> first && first[0] != '#' && !add_range(first, out)) return false;
  }
  return true;
}

std::optional<Options> parse(int argc, char** argv) {
  Options out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--trace")
      out.trace = true;
    else if (word == "--twice")
      out.twice = true;
    else if (word == "--json")
      out.json = true;
    else if (word == "--all-kinds")
      out.all_kinds = true;
    else if ((word == "--seeds" || word == "--seed") && has_value && add_range(argv[++i], out))
      continue;
    else if (word == "--file" && has_value && add_file(argv[++i], out))
      continue;
    else
      return std::nullopt;
  }
  return out;
}

template <class Names, class Values>
int print_kinds(const char* what, const Names& names, const Values& values) {
  int missing = 0;
  fmt::print("{}:", what);
  for (std::size_t i = 0; i < names.size(); ++i) {
    fmt::print(" {}={}", names[i], values[i]);
    missing += values[i] == 0;
  }
  fmt::print("\n");
  return missing;
}

void print_json(const Counts& counts, std::uint64_t seeds, std::uint64_t failed, std::uint64_t median) {
  nlohmann::json out{{"seeds", seeds},
                     {"failed", failed},
                     {"events", counts.events},
                     {"events_median", median},
                     {"frames", counts.frames},
                     {"commits", counts.commits},
                     {"sessions", counts.sessions},
                     {"simulated_hours", static_cast<double>(counts.simulated.ns) / 3.6e12}};
  for (std::size_t i = 0; i < kFaultNames.size(); ++i) out["faults"][kFaultNames[i]] = counts.faults[i];
  for (std::size_t i = 0; i < kCheckNames.size(); ++i) out["checks"][kCheckNames[i]] = counts.checks[i];
  fmt::print("{}\n", out.dump(2));
}

int run(const Options& options) {
  Counts total;
  std::vector<std::uint64_t> events;
  std::uint64_t failed = 0;
  for (const std::uint64_t seed : options.seeds) {
    running_seed = seed;
    World world(seed, options.trace);
    world.run();
    total.add(world.counts);
    events.push_back(world.counts.events);
    if (world.trace.failed()) {
      ++failed;
      fmt::print(stderr, "seed {} {}\n", seed, world.trace.violation());
    }
    if (!options.twice) continue;
    World again(seed, false);
    again.run();
    if (again.trace.hash() != world.trace.hash()) {
      ++failed;
      fmt::print(stderr, "seed {} went another way the second time: {:016x}, {:016x}\n", seed, world.trace.hash(),
                 again.trace.hash());
    }
  }
  std::ranges::sort(events);
  const std::uint64_t median = events.empty() ? 0 : events[events.size() / 2];
  if (options.json) {
    print_json(total, options.seeds.size(), failed, median);
    return failed > 0;
  }
  fmt::print(
      "{} seeds, {} failed; {} events (median {}), {} frames, {} connections, {} commits acknowledged; "
      "{:.2f} hours simulated\n",
      options.seeds.size(), failed, total.events, median, total.frames, total.sessions, total.commits,
      static_cast<double>(total.simulated.ns) / 3.6e12);
  const int missing =
      print_kinds("faults", kFaultNames, total.faults) + print_kinds("checks", kCheckNames, total.checks);
  if (options.all_kinds && missing > 0) fmt::print(stderr, "{} kinds did not occur\n", missing);
  return failed > 0 || (options.all_kinds && missing > 0);
}

}  // namespace
}  // namespace slipstream::sim

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    std::fputs(slipstream::sim::kHelp, stdout);
    return 0;
  }
  const auto options = slipstream::sim::parse(argc, argv);
  if (!options || options->seeds.empty()) {
    std::fputs(slipstream::sim::kHelp, stderr);
    return 2;
  }
  std::signal(SIGABRT, slipstream::sim::on_abort);
  return slipstream::sim::run(*options);
}
