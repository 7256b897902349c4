#include "tests/sim/standby.h"

#include <algorithm>

namespace slipstream::sim {

bool Standby::next_event(node::StandbyEvent& event) {
  if (events_.empty()) return false;
  event = std::move(events_.front());
  events_.pop_front();
  return true;
}

void Standby::tell(node::StandbyEvent event) {
  events_.push_back(std::move(event));
  wake();
}

void Standby::connect_later() {
  ++life_;
  common_.scheduler.after(random_.between(milliseconds(1), milliseconds(100)), [this, life = life_] {
    if (life != life_ || connected_) return;
    connected_ = true;
    fed_ = std::min(flushed_, released_);
    tell(node::StandbyConnected{restart_point_, "standby"});
    tell(node::StandbyReply{written_, flushed_, applied_});
    work();
  });
}

void Standby::release(const node::Release& release) {
  if (release.fed_end != released_) on_fed(release.fed_end);
  released_ = release.fed_end;
  if (connected_) work();
}

// One step at a time: write, flush, replay.
void Standby::work() {
  fed_ = std::max(fed_, released_);
  if (working_ || !connected_ || applied_ >= fed_) return;
  working_ = true;
  const Duration time = random_.between(microseconds(20), microseconds(random_.chance(0.01) ? 20'000 : 300));
  common_.scheduler.after(time, [this, life = life_] {
    if (life != life_) return;
    working_ = false;
    if (applied_ < flushed_ && (written_ >= fed_ || random_.chance(0.5)))
      applied_ = flushed_, applied_ever_ = std::max(applied_ever_, applied_);
    else if (flushed_ < written_)
      flushed_ = written_;
    else
      written_ = std::max(written_, fed_);
    if (random_.chance(0.01)) restart_point_ = std::max(restart_point_, align_down(applied_, kSegmentSize.value));
    tell(node::StandbyReply{written_, flushed_, applied_});
    work();
  });
}

void Standby::replica_died() {
  ++life_;
  connected_ = working_ = false;
  events_.clear();
  fed_ = released_ = {};
}

void Standby::restart() {
  ++life_;
  working_ = false;
  if (connected_) tell(node::StandbyLost{});
  connected_ = false;
  written_ = flushed_, applied_ = std::min(applied_, restart_point_);
  connect_later();
}

void Standby::make_new(Lsn restart_point) {
  replica_died();
  restart_point_ = written_ = flushed_ = applied_ = applied_ever_ = restart_point;
}

}  // namespace slipstream::sim
