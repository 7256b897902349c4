#include "app/status.h"

#include <fmt/format.h>

#include <fmt/ranges.h>
#include <algorithm>

#include "app/promotion.h"

namespace slipstream::app {
namespace {

double to_us(Duration d) { return static_cast<double>(d.ns) / 1000.0; }

Json ends_json(const ack::Ends& ends) {
  Json out;
  for (const ack::Level level : ack::kAllLevels) out[std::string(ack::to_string(level))] = to_string(ends[level]);
  return out;
}

Json replica_json(const node::ReplicaView& replica) {
  Json lag;
  for (const ack::Level level : ack::kAllLevels) {
    const auto& q = replica.lag[static_cast<std::size_t>(level)];
    lag[std::string(ack::to_string(level))] = {{"p50", to_us(q.p50)}, {"p99", to_us(q.p99)}, {"count", q.count}};
  }
  return {{"name", replica.name},
          {"number", replica.id.value},
          {"state", replica.state},
          {"reason", replica.reason},
          {"in_policy", replica.in_policy},
          {"counts", replica.counts},
          {"candidate", replica.candidate},
          {"standby_ready", replica.standby_ready},
          {"log_only", replica.log_only},
          {"ends", ends_json(replica.ends)},
          {"final_end", to_string(replica.final_end)},
          {"sent_end", to_string(replica.sent_end)},
          {"last_heard_us", to_us(replica.last_heard)},
          {"round_trip_us", to_us(replica.round_trip)},
          {"frame_bytes", replica.frame_bytes},
          {"frames_sent", replica.frames_sent},
          {"bytes_sent", replica.bytes_sent},
          {"bytes_resent", replica.bytes_resent},
          {"lag_us", lag}};
}

Json primary_json(const node::PrimaryView& view) {
  Json replicas = Json::array();
  for (const auto& replica : view.replicas) replicas.push_back(replica_json(replica));
  return {{"state", view.state},
          {"reason", view.reason},
          {"system", std::to_string(view.system.value)},
          {"timeline", view.timeline.value},
          {"epoch", to_string(view.epoch)},
          {"counted_by_postgres", view.counted_by_postgres},
          {"synchronous_standby_names", view.synchronous_standby_names},
          {"flushed_end", to_string(view.flushed_end)},
          {"valid_end", to_string(view.valid_end)},
          {"shipped_end", to_string(view.shipped_end)},
          {"confirmed_end", to_string(view.confirmed_end)},
          {"slot_end", to_string(view.slot_end)},
          {"committed", ends_json(view.committed)},
          {"policy", view.policy},
          {"policy_version", view.policy_version},
          {"not_held", marks_json(view.not_held)},
          {"standby_xmin", view.feedback.xmin},
          {"standby_catalog_xmin", view.feedback.catalog_xmin},
          {"waiting_us", to_us(view.waiting)},
          {"waiting_for", view.waiting_for},
          {"replicas", replicas}};
}

Json replica_self_json(const node::ReplicaSelfView& view) {
  return {{"state", view.state},
          {"reason", view.reason},
          {"system", std::to_string(view.system.value)},
          {"timeline", view.timeline.value},
          {"log_id", to_string(view.log_id.value)},
          {"held_epoch", to_string(view.held_epoch)},
          {"promised_epoch", to_string(view.promised_epoch)},
          {"promised_to", view.promised_to},
          {"split_brain_possible", !view.unfenced.empty()},
          {"unfenced", view.unfenced},
          {"promised_term", view.promised_epoch.term},
          {"policy", view.policy},
          {"not_held", marks_json(view.not_held)},
          {"standby_xmin", view.feedback.xmin},
          {"standby_catalog_xmin", view.feedback.catalog_xmin},
          {"log_begin", to_string(view.log_begin)},
          {"received_end", to_string(view.received_end)},
          {"synced_end", to_string(view.synced_end)},
          {"durable_end", to_string(view.durable_end)},
          {"apply_awaited_end", to_string(view.apply_awaited_end)},
          {"final_end", to_string(view.final_end)},
          {"fed_end", to_string(view.fed_end)},
          {"applied_end", to_string(view.applied_end)},
          {"primary_flushed_end", to_string(view.primary_flushed_end)},
          {"standby_connected", view.standby_connected},
          {"standby_ready", view.standby_ready},
          {"log_only", view.log_only},
          {"bytes_received", view.bytes_received},
          {"bytes_duplicate", view.bytes_duplicate}};
}

std::string text(const Json& json, const char* key) { return json.value(key, ""); }

// A quantile for people, in the unit that fits: 312 us, 1.9 ms, 5.9 s.
std::string lag_text(double us) {
  if (us < 999.5) return fmt::format("{:.0f} us", us);
  if (us < 999.5e3) return fmt::format("{:.3g} ms", us / 1e3);
  return fmt::format("{:.3g} s", us / 1e6);
}

std::string marks_lines(const Json& view, const std::string& holder) {
  std::string out;
  for (const Json& mark : view.value("not_held", Json::array())) {
    const std::string from = text(mark, "from") == "0/0" ? "a position not known" : text(mark, "from");
    const std::string range = mark["to"].is_null() ? fmt::format("from {} on", from)
                                                   : fmt::format("between {} and {}", from, text(mark, "to"));
    out += fmt::format(
        "not held   commits {} may be lacking on {}: synchronous_standby_names did not always contain slipstream\n",
        range, holder);
  }
  return out;
}

std::string primary_table(const Json& view) {
  std::string out = fmt::format("state      {}{}\nepoch      {}   timeline {}   system {}\n", text(view, "state"),
                                text(view, "reason").empty() ? "" : ": " + text(view, "reason"), text(view, "epoch"),
                                view.value("timeline", 0), text(view, "system"));
  out += fmt::format("positions  flushed {}   shipped {}   confirmed {}\n", text(view, "flushed_end"),
                     text(view, "shipped_end"), text(view, "confirmed_end"));
  const Json& committed = view["committed"];
  out += fmt::format("committed  received {}   durable {}   applied {}\n", text(committed, "received"),
                     text(committed, "durable"), text(committed, "applied"));
  out += fmt::format("policy     {} (version {})\n",
                     text(view, "policy").empty() ? "none: asynchronous" : text(view, "policy"),
                     view.value("policy_version", std::uint64_t{0}));
  if (view.contains("bypass")) {
    const Json& bypass = view["bypass"];
    out += fmt::format("bypass     on since {} by {}: {}. Commits do not wait for replicas\n", text(bypass, "since"),
                       text(bypass, "by"), text(bypass, "reason"));
  }
  out += marks_lines(view, "replicas");
  for (const Json& sentence : view["waiting_for"])
    out += fmt::format("commits    wait for {:.1f} s already: {}\n", view.value("waiting_us", 0.0) / 1e6,
                       sentence.get<std::string>());
  constexpr auto kRow = "{:<12} {:<12} {:<6} {:>12} {:>12} {:>12} {:>16} {:>16} {:>16}\n";
  out += fmt::format("\n{:<93}lag, p50 / p99:\n", "");
  out += fmt::format(kRow, "replica", "state", "counts", "received", "durable", "applied", "received", "durable",
                     "applied");
  for (const Json& replica : view["replicas"]) {
    const Json& ends = replica["ends"];
    const auto lag = [&](const char* level) {
      const Json& q = replica["lag_us"][level];
      return q.value("count", 0) == 0 ? std::string("-")
                                      : lag_text(q.value("p50", 0.0)) + " / " + lag_text(q.value("p99", 0.0));
    };
    out += fmt::format(kRow, text(replica, "name"), text(replica, "state"),
                       replica.value("counts", false) ? "yes" : "no", text(ends, "received"), text(ends, "durable"),
                       text(ends, "applied"), lag("received"), lag("durable"), lag("applied"));
    if (!text(replica, "reason").empty()) out += fmt::format("             {}\n", text(replica, "reason"));
  }
  return out;
}

std::string standby_line(const Json& view) {
  if (view.value("log_only", false)) return "none (log_only)";
  if (view.value("standby_connected", false)) return "connected";
  if (!view.contains("feed") || text(view["feed"], "state") != "needs_older_wal") return "not connected";
  return fmt::format("needs older WAL than this log has: {}\n           to do: {}\n          ",
                     text(view["feed"], "reason"), text(view["feed"], "remedy"));
}

std::string readers_lines(const Json& view) {
  std::string out;
  if (!view.contains("feed")) return out;
  for (const Json& reader : view["feed"]["readers"])
    if (!reader.value("standby", false))
      out += fmt::format("reader     {}   sent {}   flushed {}\n", text(reader, "application_name"),
                         text(reader, "sent_end"), text(reader, "flush"));
  return out;
}

std::string replica_table(const Json& view) {
  std::string out = fmt::format("state      {}{}\nepoch      held {}   promised {}{}   timeline {}   system {}\n",
                                text(view, "state"), text(view, "reason").empty() ? "" : ": " + text(view, "reason"),
                                text(view, "held_epoch"), text(view, "promised_epoch"),
                                text(view, "promised_to").empty() ? "" : " to " + text(view, "promised_to"),
                                view.value("timeline", 0), text(view, "system"));
  out += fmt::format("log        begins {}   received {}   durable {}   final {}\n", text(view, "log_begin"),
                     text(view, "received_end"), text(view, "durable_end"), text(view, "final_end"));
  out += fmt::format("standby    {}   fed {}   applied {}\n", standby_line(view), text(view, "fed_end"),
                     text(view, "applied_end"));
  out += readers_lines(view);
  out += fmt::format("policy     {}\n", text(view, "policy").empty() ? "not known yet" : text(view, "policy"));
  out += marks_lines(view, "this replica");
  if (view.value("split_brain_possible", false))
    out +=
        fmt::format("warning    {}\n", split_brain_warning(view["unfenced"].get<std::vector<std::string>>(),
                                                           text(view, "promised_to"), view.value("promised_term", 0u)));
  return out;
}

Json ports_json(const std::vector<node::PortView>& ports) {
  Json out = Json::array();
  for (const node::PortView& port : ports)
    out.push_back({{"name", port.name},
                   {"up", port.up},
                   {"received", port.received},
                   {"sent", port.sent},
                   {"foreign", port.foreign},
                   {"dropped", port.dropped},
                   {"missed", port.missed ? Json(*port.missed) : Json()},
                   {"link_losses", port.link_losses},
                   {"stalls", port.stalls},
                   {"offloads", port.offloads},
                   {"chained", port.chained}});
  return out;
}

std::string ports_lines(const Json& status) {
  std::string out;
  for (const Json& port : status.value("ports", Json::array())) {
    out += fmt::format("port       {} {}   received {}   sent {}   dropped {}", text(port, "name"),
                       port.value("up", false) ? "up" : "down", port.value("received", 0ull), port.value("sent", 0ull),
                       port.value("dropped", 0ull));
    if (const Json missed = port.value("missed", Json()); missed.is_number() && missed != 0)
      out += fmt::format("   missed {}", missed.get<std::uint64_t>());
    if (const auto offloads = port.value("offloads", std::vector<std::string>()); !offloads.empty())
      out += fmt::format("   offloads {}", fmt::join(offloads, ", "));
    if (const auto losses = port.value("link_losses", 0ull)) out += fmt::format("   link lost {} times", losses);
    if (const auto stalls = port.value("stalls", 0ull)) out += fmt::format("   reset {} times after a stall", stalls);
    out += "\n";
  }
  return out;
}

}  // namespace

Json feed_json(const postgres::FeedView& view) {
  Json readers = Json::array();
  bool streaming = false;
  for (const auto& reader : view.readers) {
    streaming = streaming || reader.standby;
    const postgres::StandbyStatus said = reader.status.value_or(postgres::StandbyStatus{});
    readers.push_back({{"application_name", reader.application_name},
                       {"standby", reader.standby},
                       {"start", to_string(reader.start)},
                       {"sent_end", to_string(reader.sent_end)},
                       {"write", to_string(said.write)},
                       {"flush", to_string(said.flush)},
                       {"apply", to_string(said.apply)}});
  }
  const bool refused = !streaming && !view.refused_start.empty();
  return {{"state", streaming ? "streaming"
                    : refused ? "needs_older_wal"
                              : "away"},
          {"reason", refused ? view.refused_start : ""},
          {"remedy", refused ? "give the standby a restore_command that has the earlier WAL (another replica's log: "
                               "slipstream restore), or make replica and standby anew with slipstream init-standby"
                             : ""},
          {"readers", readers}};
}

Json status_json(const node::Snapshot& snapshot) {
  Json out{{"name", snapshot.name}, {"role", snapshot.role}};
  if (snapshot.role == "primary")
    out["primary"] = primary_json(snapshot.primary);
  else
    out["replica"] = replica_self_json(snapshot.replica);
  out["security"] = snapshot.security;
  out["frames"] = snapshot.verdicts;
  out["ports"] = ports_json(snapshot.ports);
  if (snapshot.role == "primary") out["frames_sealed_once"] = snapshot.frames_sealed_once;
  return out;
}

std::string state_line(const node::Snapshot& snapshot) {
  if (snapshot.role != "primary") {
    const node::ReplicaSelfView& view = snapshot.replica;
    return view.state + (view.reason.empty() ? "" : ": " + view.reason);
  }
  const node::PrimaryView& view = snapshot.primary;
  std::string out = view.state + (view.reason.empty() ? "" : ": " + view.reason);
  for (const node::ReplicaView& replica : view.replicas)
    out += fmt::format("; {} {}{}", replica.name, replica.state,
                       replica.state == "refused" ? " (" + replica.reason + ")" : "");
  return out;
}

std::string service_line(const node::Snapshot& snapshot) {
  std::string out = state_line(snapshot);
  for (const std::string& sentence : snapshot.primary.waiting_for)
    out += fmt::format("; commits wait for {:.1f} s already: {}", to_us(snapshot.primary.waiting) / 1e6, sentence);
  std::ranges::replace(out, '\n', ' ');
  return out;
}

std::string split_brain_warning(const std::vector<std::string>& unfenced, const std::string& candidate,
                                std::uint32_t term) {
  return fmt::format(
      "split brain possible until {0} {1} fenced: slipstream fence -c FILE --candidate {2} --term {3} -o EVIDENCE "
      "there, then here: "
      "slipstream promote -c FILE --fenced EVIDENCE",
      fmt::join(unfenced, ", "), unfenced.size() == 1 ? "is" : "are", candidate, term);
}

std::string status_table(const Json& status) {
  std::string out = fmt::format("node       {} ({})\n", text(status, "name"), text(status, "role"));
  out += text(status, "role") == "primary" ? primary_table(status["primary"]) : replica_table(status["replica"]);
  out += ports_lines(status);
  std::string refused;
  for (const auto& [verdict, count] : status["frames"].items())
    if (verdict != "accepted" && verdict != "duplicate" && count.get<std::uint64_t>() > 0)
      refused += fmt::format("{}{} {}", refused.empty() ? "" : ", ", verdict, count.get<std::uint64_t>());
  if (status.contains("warnings"))
    for (const Json& warning : status["warnings"]) out += fmt::format("warning    {}\n", warning.get<std::string>());
  return out + (refused.empty() ? "" : fmt::format("refused    {}\n", refused));
}

}  // namespace slipstream::app
