#include <deque>

#include "app/bench/bench.h"
#include "app/bench/generated_wal.h"
#include "app/daemon.h"
#include "app/memory.h"
#include "app/network.h"
#include "app/no_standby.h"
#include "node/replica_node.h"
#include "node/step.h"
#include "wal/io/files.h"

namespace slipstream::app::bench {
namespace {

node::State first_state() {
  node::State state;
  state.role = node::State::Role::kReplica;
  state.system = kSystem, state.segment_size = kSegmentSize, state.timeline = TimelineId{1};
  state.page_magic = 0xD110;
  state.log_id = LogId{{random_u64(), random_u64()}};
  state.log_begin = state.scan_begin = state.counted_end = state.final_end = kLogBegin;
  state.log_only = true;
  return state;
}

// Whatever is written is durable at once, nowhere.
class Discard : public node::Disk {
 public:
  bool submit_read(const node::ReadOp& op) override { return done(op.id, node::DiskStatus::kMissing); }
  bool submit_write(const node::WriteOp& op) override { return done(op.id, node::DiskStatus::kOk); }
  bool submit_persist(node::PersistOp&& op) override { return done(op.id, node::DiskStatus::kOk); }
  bool submit_history(node::KeepHistoryOp&& op) override { return done(op.id, node::DiskStatus::kOk); }
  std::size_t complete(std::span<node::DiskDone> out) override {
    std::size_t n = 0;
    for (; n < out.size() && !done_.empty(); ++n, done_.pop_front()) out[n] = done_.front();
    return n;
  }

 private:
  bool done(std::uint32_t id, node::DiskStatus status) {
    done_.push_back({id, status});
    return true;
  }
  std::deque<node::DiskDone> done_;
};

std::expected<void, Error> receive_and_discard(const Config& config, const std::atomic<bool>& stop) {
  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());
  dataplane::Waker waker;
  Memory ring(config.runtime.ring.value), compare(64u << 10);
  Discard disk;
  NoStandby standby;
  node::ReplicaOptions options;
  options.id = config.self().number, options.name = config.name, options.primary = config.primary_node()->number,
  options.log_only = true;
  const wal::Recovered nothing{kLogBegin, Lsn{0}, wal::Scanner::Start::kPage};
  node::ReplicaNode node(options, first_state(), nothing, ring.span(), compare.span(), dataplane::monotonic_now());
  network->run(
      config, nullptr, waker,
      [&](Instant now) { return node::step(node, network->port(), disk, standby, options.primary, now); },
      [&] { return node.deadline(); }, stop);
  return {};
}

// A directory of its own beside the configured one, made anew.
std::expected<void, Error> receive_into_log(Config config, const std::atomic<bool>& stop) {
  config.replica.directory += ".bench";
  config.replica.log_only = true;
  config.replica.keep = ByteCount{256u << 20};
  const std::filesystem::path directory = config.replica.directory;
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory / "wal");
  if (auto kept = wal::io::durable_replace(directory / "state", node::encode(first_state())); !kept)
    return std::unexpected(kept.error());
  const auto done = run_replica(config, stop);
  std::filesystem::remove_all(directory);
  return done;
}

}  // namespace

std::expected<void, Error> receive(const Config& config, const std::string& sink, const std::atomic<bool>& stop) {
  if (config.role != Role::kReplica)
    return std::unexpected(Error{ExitCode::kConfiguration, "a primary's configuration sends; a replica's receives",
                                 config.path, "name a replica's file"});
  if (sink == "raw") return receive_raw(config, stop);
  if (sink == "tcp") return receive_tcp(config, stop);
  return sink == "discard" ? receive_and_discard(config, stop) : receive_into_log(config, stop);
}

}  // namespace slipstream::app::bench
