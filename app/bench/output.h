#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "app/control.h"

namespace slipstream::app::bench {

Json machine();  // {cpu, cores, memory_gb, kernel, hugepages}

// {name, goal, floor, measured, met, runs}. `at_most`: smaller is better. A goal or floor of 0 is none.
struct Goal {
  std::string name;
  double goal = 0;
  double floor = 0;
  double measured = 0;
  bool at_most = true;
  unsigned runs = 1;
};
Json goal_json(const Goal& goal);

double median(std::vector<double> values);

// Columns as wide as they need to be, numbers to the right.
std::string table(const std::vector<std::vector<std::string>>& rows);
std::string goals_table(const Json& goals);

}  // namespace slipstream::app::bench
