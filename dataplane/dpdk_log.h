#pragma once

#include <string>

namespace slipstream::dataplane {

// DPDK's own log, kept instead of printed, so that errors that people see are ours.
void keep_dpdk_log();          // Before DPDK starts; once.
void forget_dpdk_log();        // What was said so far is about something else.
std::string dpdk_complaint();  // What a driver (or else DPDK) said first since then, without the function's name; empty
                               // when nothing.

}  // namespace slipstream::dataplane
