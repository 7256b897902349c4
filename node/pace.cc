#include "node/pace.h"

#include <algorithm>

namespace slipstream::node {
namespace {

constexpr Duration kMeasured = milliseconds(200);
constexpr double kBurstSeconds = 0.01;  // A thread that slept may be late by less than this.
constexpr double kRise = 1.125, kRiseAgain = 1.02, kFall = 0.75, kForget = 0.2, kForgetSlowly = 0.01;
constexpr double kLearnt = 1.05;  // The quantile is known no better: where the steps stopped is chance.
constexpr double kLearn = 0.005, kLearnSlowly = 0.0005;

double in_seconds(Duration d) { return static_cast<double>(d.ns) / 1e9; }

}  // namespace

double Pace::rate() const { return std::max(fixed_ ? static_cast<double>(fixed_->value) : found_, 2 * growth_); }

void Pace::on_turn(Lsn log_end, bool open, Instant now) {
  if (seen_ == Instant{}) seen_ = measured_ = now, log_end_then_ = log_end;
  open_ = open || (fixed_ && fixed_->value == 0);
  allowed_ = std::min(allowed_ + rate() * in_seconds(now - seen_), rate() * kBurstSeconds);
  seen_ = now;
  if (now - measured_ >= kMeasured) measure(log_end, now);
}

void Pace::on_commit(Duration took) {
  const auto ns = static_cast<double>(took.ns);
  took_sum_ns_ += ns;
  ++took_count_;
  if (ns > kLearnt * long_ns_) ++long_count_;
  if (long_ns_ == 0) long_ns_ = ns;
  // A quantile is where steps up and down balance.
  if (spent_ == 0 || found_ <= kLeast)
    long_ns_ *= 1 + (spent_ == 0 ? kLearn : kLearnSlowly) * (ns > long_ns_ ? 1 - kLong : -kLong);
}

void Pace::spend(ByteCount bytes) {
  spent_ += static_cast<double>(bytes.value);
  if (!open_) allowed_ -= static_cast<double>(bytes.value);
}

Instant Pace::next() const {
  return allows() ? seen_ : seen_ + Duration{static_cast<std::int64_t>(-allowed_ / rate() * 1e9) + 1};
}

void Pace::measure(Lsn log_end, Instant now) {
  const double grown = log_end > log_end_then_ ? static_cast<double>((log_end - log_end_then_).value) : 0;
  growth_ = grown / in_seconds(now - measured_);
  adapt();
  measured_ = now, log_end_then_ = log_end;
  spent_ = took_sum_ns_ = took_count_ = long_count_ = 0;
}

void Pace::adapt() {
  const double took = took_count_ > 0 ? took_sum_ns_ / took_count_ : 0;
  const bool idle = spent_ == 0;
  if (idle) found_ = kLeast, limit_met_ = false;  // The next catch-up begins gently.
  // What is usual is learnt while nothing is read; and, slowly, at the least rate, because the load may have changed.
  if (took > 0 && usual_ns_ == 0) usual_ns_ = took;
  if (took > 0 && (idle || found_ <= kLeast)) usual_ns_ += (idle ? kForget : kForgetSlowly) * (took - usual_ns_);
  if (idle) return;
  const bool slowed = took > kSlower * usual_ns_ || long_count_ > kMoreLong * kLong * took_count_ + 1;
  found_ = std::clamp(found_ * (slowed ? kFall : limit_met_ ? kRiseAgain : kRise), kLeast, kMost);
  limit_met_ |= slowed;
}

}  // namespace slipstream::node
