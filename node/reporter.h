#pragma once

#include <algorithm>

#include "ack/level.h"
#include "node/io.h"

namespace slipstream::node {

// What PostgreSQL may be told (R1).
// Guarantees: (1) An end is raised only to min(committed, valid), and while PostgreSQL stops also to no more than its
// stream's end. (2) It never falls over one connection, and
//   starts from nothing at each. (3) Once frozen it never rises again (E2).
class Reporter {
 public:
  void on_connected() {
    report_ = {};
    stopping_ = false;
  }
  void on_stopping() { stopping_ = true; }
  void freeze() { frozen_ = true; }

  void raise(const ack::Ends& committed, Lsn valid_end, Lsn stream_end) {
    if (frozen_) return;
    const Lsn limit = stopping_ ? std::min(valid_end, stream_end) : valid_end;
    report_.write = std::max(report_.write, std::min(committed[ack::Level::kReceived], limit));
    report_.flush = std::max(report_.flush, std::min(committed[ack::Level::kDurable], limit));
    report_.apply = std::max(report_.apply, std::min(committed[ack::Level::kApplied], limit));
  }
  const Report& report() const { return report_; }

 private:
  Report report_{};
  bool stopping_ = false;
  bool frozen_ = false;
};

}  // namespace slipstream::node
