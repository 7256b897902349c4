#include "app/primary_control.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "app/status.h"
#include "dataplane/idle.h"

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 10ms;
constexpr int kLooksForMark = 300, kLooksForReplicas = 100;

}  // namespace

node::Snapshot PrimaryControl::snapshot() {
  return mailbox_.call([&] {
    node::Snapshot out = node_.snapshot(dataplane::monotonic_now());
    network_.describe(out);
    return out;
  });
}

std::expected<Json, Error> PrimaryControl::answer(const Json& request) {
  const std::string command = request["command"];
  if (command == "status") return status();
  if (command == "expect_bypass") return expect_bypass();
  return std::unexpected(
      Error{ExitCode::kUsage, "a primary's daemon does not know this command", command, "status, expect_bypass"});
}

Json PrimaryControl::status() {
  const node::Snapshot now = snapshot();
  Json status = status_json(now);
  status["warnings"] = Json::array();
  if (const auto problem = upstream_.problem()) status["warnings"].push_back("PostgreSQL: " + problem->message());
  if (!disk_.note().empty()) status["warnings"].push_back(disk_.note());
  if (const std::string problem = disk_.problem(); !problem.empty()) status["warnings"].push_back(problem);
  const auto newest = bypasses_.newest();
  if (!newest)
    status["warnings"].push_back(newest.error().message());
  else if (*newest && (*newest)->on && !now.primary.counted_by_postgres)
    status["primary"]["bypass"] = to_json(**newest);
  return status;
}

std::expected<Json, Error> PrimaryControl::expect_bypass() {
  mailbox_.call([&] {
    const node::PrimaryView view = node_.snapshot(dataplane::monotonic_now()).primary;
    node_.on_upstream(node::UpstreamSyncNames{false, view.synchronous_standby_names, view.flushed_end},
                      dataplane::monotonic_now());
  });
  const auto wait_until = [&](int looks, auto met) {
    while (!met(snapshot().primary) && --looks > 0) std::this_thread::sleep_for(kLook);
    return looks > 0;
  };
  if (!wait_until(kLooksForMark, [](const node::PrimaryView& view) { return view.marks_durable; }))
    return std::unexpected(Error{ExitCode::kStorage, "the mark for the bypass was not durable within 3 s",
                                 config_.primary.state_directory,
                                 "look at the disk; if commits must go on: stop the daemon, then repeat this"});
  const bool spread = wait_until(kLooksForReplicas, [](const node::PrimaryView& view) {
    return std::ranges::all_of(view.replicas, [](const node::ReplicaView& replica) {
      return !replica.in_policy || replica.state != "streaming" || replica.counts || !replica.standby_ready;
    });
  });
  return Json{{"note", spread ? "" : "not every replica has heard of the bypass yet"}};
}

}  // namespace slipstream::app
