#pragma once

#include <deque>
#include <functional>

#include "node/io.h"
#include "tests/sim/random.h"
#include "tests/sim/replica_disk.h"
#include "tests/sim/trace.h"

namespace slipstream::sim {

// The hot standby beside a replica: takes what it is fed, writes, flushes, replays, and says so, in its own time. A
// restart replays from its restart point again.
class Standby : public node::Standby {
 public:
  Standby(Common common, Random random) : common_(common), random_(random) {}

  bool next_event(node::StandbyEvent& event) override;
  void release(const node::Release& release) override;

  void replica_started() { connect_later(); }
  void replica_died();
  void restart();                    // The standby alone.
  void make_new(Lsn restart_point);  // From a base backup taken now.

  Lsn applied_ever() const { return applied_ever_; }
  Lsn restart_point() const { return restart_point_; }
  Lsn applied() const { return applied_; }
  Lsn fed_end() const { return fed_; }
  std::function<void()> wake;
  std::function<void(Lsn)> on_fed;

 private:
  void connect_later();
  void tell(node::StandbyEvent event);
  void work();

  Common common_;
  Random random_;
  std::deque<node::StandbyEvent> events_;
  bool connected_ = false;
  bool working_ = false;
  std::uint64_t life_ = 0;
  Lsn restart_point_ = kOrigin;
  Lsn fed_{}, released_{}, written_ = kOrigin, flushed_ = kOrigin, applied_ = kOrigin, applied_ever_ = kOrigin;
};

}  // namespace slipstream::sim
