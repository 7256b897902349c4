#pragma once

#include <atomic>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>

#include "app/bench/generated_wal.h"
#include "app/config.h"
#include "base/histogram.h"
#include "base/spsc_ring.h"
#include "dataplane/idle.h"
#include "node/io.h"

namespace slipstream::app::bench {

// What one load is measured by: from the stamp of each record to the acknowledgement of its end at the primary.
struct Lag {
  Histogram received, durable;
  Histogram repaired;  // `received` of those of which something was sent again, where they are told apart.
};

// Stands in for PostgreSQL beside a primary's node: announces what the load has written, and takes the report that
// would release commits. Threading: `announce` and `expect` for the load's thread; node::Upstream's for the data
// thread.
class LoadUpstream : public node::Upstream {
 public:
  explicit LoadUpstream(std::function<void()> wake) : wake_(std::move(wake)) {}

  // The load's. Waits while the node is too far behind to take more.
  void connect();
  void announce(const node::UpstreamChunk& chunk);
  // From now on, acknowledgements of `end` count in `lag` as of `stamp`. Before the end is announced.
  void expect(Lsn end, Instant stamp, Lag& lag);
  // Tells apart what is sent again, which `bytes_resent` counts (asked by the data thread). Of loads with one record
  // under way at a time.
  void tell_repairs(std::function<std::uint64_t()> bytes_resent) { bytes_resent_ = std::move(bytes_resent); }
  Lsn received_end() const { return Lsn{received_.load(std::memory_order_acquire)}; }
  Lsn durable_end() const { return Lsn{durable_.load(std::memory_order_acquire)}; }

  bool next_event(node::UpstreamEvent& event) override { return events_.pop(event); }
  void report(const node::Report& report) override;
  void advance_slot(Lsn) override {}
  void reconnect() override {}

 private:
  struct Sample {
    Lsn end;
    Instant stamp;
    Lag* lag = nullptr;
  };
  struct Awaited {  // Samples in order, and the first of them that was not acknowledged yet.
    SpscRing<Sample> samples{1u << 16};
    Sample first;
  };
  void push(node::UpstreamEvent event);
  static void count(Awaited& awaited, Lsn end, const std::function<Histogram&(Lag&)>& which);
  bool was_repaired();

  std::function<void()> wake_;
  std::function<std::uint64_t()> bytes_resent_;
  std::uint64_t resent_ = 0;
  SpscRing<node::UpstreamEvent> events_{4096};
  Awaited of_received_, of_durable_;
  std::atomic<std::uint64_t> received_{0}, durable_{0};
};

// The primary's side, as `slipstream run` puts it together but for PostgreSQL: its files are in `directory`, and the
// policy is the configuration's first replica. Runs `load` on a thread of its own beside the data thread, this one,
// until it returns; `tell_repairs`: LoadUpstream's. Errors: of the ports, or the load's.
using Load = std::function<std::expected<void, Error>(LoadUpstream& upstream, GeneratedWal& wal)>;
std::expected<void, Error> run_sender(const Config& config, const std::filesystem::path& directory, const Load& load,
                                      bool tell_repairs = false);

// Announces the first record and waits until a receiver has it. Errors (kPort): none within 20 s.
std::expected<void, Error> meet_receiver(LoadUpstream& upstream, GeneratedWal& wal);
// Until `end` is durable there. Errors (kPort): 20 s without any progress.
std::expected<void, Error> wait_durable(const LoadUpstream& upstream, Lsn end);

}  // namespace slipstream::app::bench
