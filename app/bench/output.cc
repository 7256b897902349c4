#include "app/bench/output.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace slipstream::app::bench {
namespace {

// The value behind the first "key : value" of a file in /proc.
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

Json machine() {
  utsname name{};
  uname(&name);
  const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return {{"cpu", proc_value("/proc/cpuinfo", "model name")},
          {"cores", sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory_gb", static_cast<int>(bytes / 1e9)},
          {"kernel", std::string(name.release)},
          {"hugepages", proc_value("/proc/meminfo", "HugePages_Total")}};
}

Json goal_json(const Goal& goal) {
  const auto met = [&](double bound) { return goal.at_most ? goal.measured <= bound : goal.measured >= bound; };
  return {{"name", goal.name},
          {"goal", goal.goal != 0 ? Json(goal.goal) : Json()},
          {"floor", goal.floor != 0 ? Json(goal.floor) : Json()},
          {"measured", goal.measured},
          {"met", met(goal.goal != 0 ? goal.goal : goal.floor)},
          {"runs", goal.runs}};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out += fmt::format("{}{:>{}}", i > 0 ? "  " : "", row[i], widths[i]);
    out += "\n";
  }
  return out;
}

std::string goals_table(const Json& goals) {
  if (goals.empty()) return "";
  const auto number = [](const Json& value) {
    return value.is_null() ? "-" : fmt::format("{:.3g}", value.get<double>());
  };
  std::vector<std::vector<std::string>> rows{{"goal", "floor", "measured", "met", "what"}};
  for (const Json& goal : goals)
    rows.push_back({number(goal["goal"]), number(goal["floor"]), number(goal["measured"]),
                    goal["met"].get<bool>() ? "yes" : "no", goal["name"]});
  return "\n" + table(rows);
}

}  // namespace slipstream::app::bench
