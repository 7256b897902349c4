#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include "app/control.h"
#include "app/daemon.h"
#include "app/file_disk.h"
#include "app/ledger_keeper.h"
#include "app/mailbox.h"
#include "app/memory.h"
#include "app/network.h"
#include "app/no_standby.h"
#include "app/promotion.h"
#include "app/replica_directory.h"
#include "app/service_notifier.h"
#include "app/standby_minder.h"
#include "app/status.h"
#include "base/recent_bytes.h"
#include "dataplane/idle.h"
#include "node/fed_from_memory.h"
#include "node/step.h"
#include "postgres/feed.h"
#include "wal/io/ledger_files.h"

namespace slipstream::app {
namespace {

constexpr std::size_t kCompareBytes = 64u << 10;
constexpr std::size_t kRecentBytes = 4u << 20;

// For the last turns of an orderly stop: answers still go out, nothing new comes in.
class NothingMoreReceived : public node::Port {
 public:
  explicit NothingMoreReceived(node::Port& port) : port_(port) {}
  void begin_turn(Instant now) override { port_.begin_turn(now); }
  std::size_t receive(std::span<protocol::Arrival>) override { return 0; }
  std::size_t room(NodeId peer) override { return port_.room(peer); }
  void send(NodeId peer, const node::OutFrame& frame) override { port_.send(peer, frame); }
  void flush() override { port_.flush(); }
  std::size_t frame_bytes_max(NodeId peer) const override { return port_.frame_bytes_max(peer); }

 private:
  node::Port& port_;
};

std::uint32_t server_version_of(std::uint64_t page_magic) {
  const auto version = wal::version_of_magic(static_cast<std::uint16_t>(page_magic));
  return version.empty() ? 150000 : static_cast<std::uint32_t>(std::strtoul(version.data(), nullptr, 10)) * 10000;
}

std::expected<std::unique_ptr<node::Standby>, Error> start_feed(const Config& config, const ReplicaDirectory& directory,
                                                                const RecentBytes& recent, std::function<void()> wake) {
  if (config.replica.log_only) return std::make_unique<NoStandby>();
  postgres::FeedOptions options{config.replica.feed.socket_directory,
                                config.replica.feed.port,
                                config.replica.feed.allow_users,
                                directory.wal(),
                                directory.state.segment_size,
                                directory.state.system,
                                directory.state.timeline,
                                directory.state.log_begin,
                                server_version_of(directory.state.page_magic),
                                std::move(wake)};
  options.recent = &recent;
  options.gather = milliseconds(config.replica.feed.gather_ms);
  auto feed = postgres::FeedServer::start(std::move(options));
  if (!feed) return std::unexpected(feed.error());
  return std::move(*feed);
}

// Answers the control socket. Everything about the node is asked of the data thread.
class ReplicaControl {
 public:
  ReplicaControl(const Config& config, const ReplicaDirectory& directory, node::ReplicaNode& node, Mailbox& mailbox,
                 const FileDisk& disk, const Network& network, const postgres::FeedServer* feed)
      : config_(config),
        directory_(directory),
        node_(node),
        mailbox_(mailbox),
        disk_(disk),
        network_(network),
        feed_(feed) {}

  std::expected<Json, Error> answer(const Json& request) {
    const std::string command = request["command"];
    if (command == "status") return status();
    if (command == "fence") return fence(request);
    if (command == "release") return release(request);
    if (command == "promoted") return promoted();
    if (command == "fenced") return fenced_since(request);
    return std::unexpected(Error{ExitCode::kUsage, "a replica's daemon does not know this command", command,
                                 "status, fence, release, promoted, fenced"});
  }

 private:
  static Instant now() { return dataplane::monotonic_now(); }

  Json status() {
    Json out = status_json(mailbox_.call([&] {
      node::Snapshot snapshot = node_.snapshot(now());
      network_.describe(snapshot);
      return snapshot;
    }));
    if (feed_) out["replica"]["feed"] = feed_json(feed_->view());
    out["warnings"] = Json::array();
    if (!disk_.note().empty()) out["warnings"].push_back(disk_.note());
    if (const std::string problem = disk_.problem(); !problem.empty()) out["warnings"].push_back(problem);
    return out;
  }

  std::expected<Json, Error> fence(const Json& request) {
    const std::string candidate = request.value("candidate", "");
    const bool supersede = request.value("supersede", false);
    std::optional<std::uint32_t> term;
    if (request.contains("term")) term = whole<std::uint32_t>(request["term"]);
    const auto done = mailbox_.call([&]() -> std::expected<void, Error> {
      const node::Promise promise = node_.evidence().promise;
      const std::uint32_t usual = promise.candidate == candidate ? promise.epoch.term : promise.epoch.term + 1;
      return node_.fence(term.value_or(usual), candidate, supersede, now());
    });
    if (!done) return std::unexpected(done.error());
    for (int i = 0; i < 3000; ++i) {
      if (mailbox_.call([&] { return node_.fenced(); })) {
        node::Evidence evidence = mailbox_.call([&] { return node_.evidence(); });
        const auto also = parse_ranges(request.value("also", Json::array()));
        if (!also) return std::unexpected(also.error());
        add_blocks(evidence, directory_.wal(), directory_.state.segment_size, *also);
        return evidence_json(evidence);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return std::unexpected(Error{ExitCode::kStorage, "what was received did not become durable within 30 s",
                                 config_.name, "look at the replica's disk; the fence itself stands"});
  }

  std::expected<Json, Error> release(const Json& request) {
    auto unfenced = parse_members(request.value("unfenced", Json::array()));
    if (!unfenced) return std::unexpected(unfenced.error());
    const auto evidence = mailbox_.call([&] { return node_.evidence(); });
    if (evidence.promise.candidate != config_.name)
      return std::unexpected(Error{ExitCode::kRefused, "this replica is not fenced for its own promotion", config_.name,
                                   "slipstream promote does that first"});
    mailbox_.call([&] { return node_.release_everything(std::move(*unfenced)), true; });
    if (auto kept = wait_until_kept(); !kept) return std::unexpected(kept.error());
    return Json{{"end", to_string(evidence.durable_end)}};
  }

  std::expected<Json, Error> promoted() {
    mailbox_.call([&] { return node_.mark_promoted(), true; });
    if (auto kept = wait_until_kept(); !kept) return std::unexpected(kept.error());
    return Json::object();
  }

  // Members that were fenced after the promotion, or are gone for good: the brain can no longer be split by them.
  std::expected<Json, Error> fenced_since(const Json& request) {
    std::vector<node::Evidence> fenced;
    for (const Json& each : request.value("evidence", Json::array())) {
      auto evidence = parse_evidence(each, "the evidence given");
      if (!evidence) return std::unexpected(evidence.error());
      fenced.push_back(std::move(*evidence));
    }
    const auto done = mailbox_.call([&]() -> std::expected<void, Error> {
      for (const node::Evidence& member : fenced)
        if (auto noted = node_.member_fenced(member); !noted) return noted;
      for (const Json& name : request.value("destroyed", Json::array()))
        if (auto noted = node_.member_destroyed(name.is_string() ? name.get<std::string>() : ""); !noted) return noted;
      return {};
    });
    if (!done) return std::unexpected(done.error());
    if (auto kept = wait_until_kept(); !kept) return std::unexpected(kept.error());
    const node::ReplicaSelfView view = mailbox_.call([&] { return node_.snapshot(now()); }).replica;
    return Json{{"unfenced", view.unfenced}, {"candidate", view.promised_to}, {"term", view.promised_epoch.term}};
  }

  std::expected<void, Error> wait_until_kept() {
    for (int i = 0; i < 2000; ++i) {
      if (mailbox_.call([&] { return node_.promotion_durable(); })) return {};
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return std::unexpected(Error{ExitCode::kStorage, "the state file was not written within 20 s", config_.name,
                                 "look at the replica's disk, then repeat"});
  }

  const Config& config_;
  const ReplicaDirectory& directory_;
  node::ReplicaNode& node_;
  Mailbox& mailbox_;
  const FileDisk& disk_;
  const Network& network_;
  const postgres::FeedServer* feed_;  // None for a log_only replica.
};

// A ledger of a segment that recovery does not find whole goes before its bytes are written again. It says that
// something was lost that had been durable after the last state file.
std::expected<void, Error> drop_ledgers_beyond(const ReplicaDirectory& directory) {
  const auto dropped =
      wal::io::remove_ledgers_beyond(directory.ledgers(), directory.layout(), directory.recovered.durable_end);
  if (!dropped) return std::unexpected(dropped.error());
  if (*dropped > 0)
    spdlog::warn(
        "{} segments behind {} were complete and durable, but are not whole now: look at the storage; they are fetched "
        "from the primary again",
        *dropped, to_string(directory.recovered.durable_end));
  return {};
}

// Durable bytes of the log do not change any more.
CompleteLog complete_log(const node::ReplicaNode& node) {
  const node::ReplicaSelfView view = node.snapshot(dataplane::monotonic_now()).replica;
  return {{view.log_begin, std::max(view.log_begin, view.durable_end)}, view.timeline};
}

// Where the log need not begin any earlier: what neither the standby nor a reader nor replica.keep wants may go. A
// standby that is away tells at its next start what it needs, so all is kept for it.
Lsn unneeded_before(const ReplicaConfig& config, bool standby_known, Lsn fed_from, Lsn final_end) {
  const std::uint64_t needed = standby_known ? std::min(fed_from, final_end).value : 0;
  return Lsn{needed > config.keep.value ? needed - config.keep.value : 0};
}

// Where the log must end for now (replica.keep_max), a segment's begin. One segment is added, since the log begins at
// one: a standby that follows can always free what is needed to go on. No bound while its promise is kept for a
// candidate: a fence ends when all that was received is durable, and nothing more comes.
Lsn write_limit(const ReplicaConfig& config, const wal::SegmentLayout& layout, const node::ReplicaSelfView& view) {
  if (config.keep_max.value == 0 || !view.promised_to.empty()) return Lsn{UINT64_MAX};
  const ByteCount segment = layout.segment_size();
  return align_up(view.log_begin + config.keep_max + segment, segment.value);
}

// Once a second: segments that are not needed are removed, but only below what the state file already gives as the
// log's begin, and that gives the bound of its end.
void keep_within_bounds(const Config& config, const ReplicaDirectory& directory, node::Standby& standby,
                        node::ReplicaNode& node, Mailbox& mailbox, FileDisk& disk) {
  auto* feed = dynamic_cast<postgres::FeedServer*>(&standby);
  const Lsn fed_from = feed ? feed->needed_from() : Lsn{UINT64_MAX};
  node::ReplicaSelfView view;
  const Lsn begin = mailbox.call([&] {
    view = node.snapshot(dataplane::monotonic_now()).replica;
    const bool standby_known = !feed || view.standby_connected;
    if (const Lsn begin_at = unneeded_before(config.replica, standby_known, fed_from, view.final_end); begin_at > Lsn{})
      node.raise_log_begin(begin_at);
    return node.log_begin();
  });
  view.log_begin = begin;
  disk.set_write_limit(write_limit(config.replica, directory.layout(), view));
  if (feed) feed->set_log_begin(begin);
  wal::io::remove_segments_before(directory.wal(), directory.layout(), begin);
}

// Could be fed, and is not there.
bool standby_away(const node::ReplicaNode& node, Mailbox& mailbox) {
  const node::ReplicaSelfView view = mailbox.call([&] { return node.snapshot(dataplane::monotonic_now()).replica; });
  return view.state == "receiving" && !view.standby_connected;
}

enum class Ended : std::uint8_t {
  kStopped,
  kToReopen,  // The log is to be cut, which opening its directory does.
};

// Opens the directory, serves it and closes it; all of it but the network, which lives as long as the process: DPDK is
// started once in each.
std::expected<Ended, Error> serve(const Config& config, std::optional<Network>& network,
                                  const std::atomic<bool>& stop) {
  auto directory = ReplicaDirectory::open(config.replica.directory);
  if (!directory) return std::unexpected(directory.error());
  if (auto dropped = drop_ledgers_beyond(*directory); !dropped) return std::unexpected(dropped.error());
  if (!network) {
    auto opened = Network::open(config);
    if (!opened) return std::unexpected(opened.error());
    network.emplace(std::move(*opened));
  }

  dataplane::Waker waker;
  const auto wake = [&waker] { waker.notify(); };
  Memory ring(config.runtime.ring.value), compare(kCompareBytes);
  if (auto loaded = load_last_block(*directory, ring.span()); !loaded) return std::unexpected(loaded.error());
  FileDisk disk({directory->wal(),
                 directory->state_file(),
                 directory->state.segment_size,
                 directory->state.timeline,
                 directory->history,
                 true,
                 {},
                 "",
                 wake});
  const std::span<std::byte> regions[] = {compare.span()};
  disk.register_memory(regions);
  if (!disk.note().empty()) spdlog::warn("{}", disk.note());
  RecentBytes recent(kRecentBytes);
  recent.append(directory->recovered.durable_end, {});
  auto standby = start_feed(config, *directory, recent, wake);
  if (!standby) return std::unexpected(standby.error());

  node::ReplicaOptions options;
  options.id = config.self().number, options.name = config.name, options.primary = config.primary_node()->number,
  options.log_only = config.replica.log_only;
  node::ReplicaNode node(options, directory->state, directory->recovered, ring.span(), compare.span(),
                         dataplane::monotonic_now());
  disk.set_write_limit(
      write_limit(config.replica, directory->layout(), node.snapshot(dataplane::monotonic_now()).replica));
  node::FedFromMemory fed(**standby, node, ring.span(), recent);

  Mailbox mailbox(wake);
  ReplicaControl answers(config, *directory, node, mailbox, disk, *network,
                         dynamic_cast<postgres::FeedServer*>(standby->get()));
  auto control =
      ControlServer::start(config.runtime.control_socket, [&](const Json& request) { return answers.answer(request); });
  if (!control) return std::unexpected(control.error());
  spdlog::info("replica {}: system {}, log from {} to {}; there: {}", config.name, directory->state.system.value,
               to_string(directory->state.log_begin), to_string(directory->recovered.durable_end),
               wal::to_string(directory->recovered.stopped_by));

  std::atomic<bool> loop_ended{false};
  std::thread keeper([&] {
    std::string refused;
    StandbyMinder minder(
        {config.replica.standby_conninfo, config.replica.feed.socket_directory, config.replica.feed.port});
    while (!loop_ended) {
      for (int i = 0; i < 10 && !loop_ended; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
      if (loop_ended) return;
      keep_within_bounds(config, *directory, **standby, node, mailbox, disk);
      if (const auto* feed = dynamic_cast<postgres::FeedServer*>(standby->get()))
        if (const std::string now_refused = feed->view().refused_start; now_refused != refused)
          if (refused = now_refused; !refused.empty()) spdlog::warn("the standby needs older WAL: {}", refused);
      if (config.replica.log_only || config.replica.standby_conninfo.empty()) continue;
      if (const auto done = minder.look(standby_away(node, mailbox), std::chrono::steady_clock::now()))
        spdlog::info("{}", *done);
    }
  });
  LedgerKeeper ledgers({directory->wal(), directory->ledgers(), directory->layout(),
                        [&] { return std::optional(mailbox.call([&] { return complete_log(node); })); }});
  ServiceNotifier notifier(
      [&] { return mailbox.call([&] { return service_line(node.snapshot(dataplane::monotonic_now())); }); });
  std::string state_shown;
  Instant looked{};
  std::atomic<bool> over{false};
  network->run(
      config, &disk, waker,
      [&](Instant now) {
        const bool stepped = node::step(node, network->port(), disk, fed, options.primary, now);
        const bool worked = mailbox.drain() || stepped;
        if (now - looked > seconds(1)) {
          looked = now;
          const std::string shown = state_line(node.snapshot(now));
          if (shown != state_shown) spdlog::info("{}", state_shown = shown);
        }
        if (stop || node.wants_reopen()) over = true;
        return worked;
      },
      [&] { return node.deadline(); }, over);
  const Ended ended = stop ? Ended::kStopped : Ended::kToReopen;
  if (ended == Ended::kStopped) ServiceNotifier::stopping();
  // An orderly stop makes everything received durable (R3), and the state file tells so: a few more turns.
  NothingMoreReceived quiet(network->port());
  for (int i = 0; i < 1000 && !node.settle(); ++i) {
    node::step(node, quiet, disk, fed, options.primary, dataplane::monotonic_now());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  loop_ended = true;
  mailbox.close();
  notifier.stop();
  keeper.join();
  ledgers.stop();
  control->reset();
  if (ended == Ended::kStopped) spdlog::info("replica {}: stopped in order", config.name);
  return ended;
}

}  // namespace

std::expected<void, Error> run_replica(const Config& config, const std::atomic<bool>& stop) {
  std::optional<Network> network;
  while (true) {
    const auto ended = serve(config, network, stop);
    if (!ended) return std::unexpected(ended.error());
    if (*ended == Ended::kStopped) return {};
    spdlog::info("replica {}: its log differs from the primary's, and is opened anew to cut it", config.name);
  }
}

}  // namespace slipstream::app
