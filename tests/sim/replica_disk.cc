#include "tests/sim/replica_disk.h"

#include <algorithm>

namespace slipstream::sim {
namespace {

auto place(std::vector<std::byte>& image, std::size_t at) { return image.begin() + static_cast<std::ptrdiff_t>(at); }

}  // namespace

Duration ReplicaDisk::some_time() {
  Duration time = random_.between(microseconds(10), microseconds(random_.chance(0.05) ? 5000 : 300));
  if (stall.ns > 0) time = time + random_.between({0}, stall);
  return time;
}

void ReplicaDisk::reserve(Lsn end) {
  const std::size_t size = index(align_up(end, kSegmentSize.value));
  if (cache_.size() < size) cache_.resize(size), durable_.resize(size);
}

bool ReplicaDisk::submit_read(const node::ReadOp& op) {
  start({Kind::kRead, op.id, op.range.begin, op.into});
  return true;
}

bool ReplicaDisk::submit_write(const node::WriteOp& op) {
  if (ops_.size() >= 32) return false;
  CHECK(op.at.value % 4096 == 0 && op.bytes.size() % 4096 == 0 && !op.bytes.empty());
  const LsnRange range{op.at, op.at + ByteCount{op.bytes.size()}};
  CHECK(align_down(range.begin, kSegmentSize.value) == align_down(Lsn{range.end.value - 1}, kSegmentSize.value));
  for (const auto& [token, other] : ops_)
    if (other.kind == Kind::kWrite && other.at < range.end && range.begin < other.at + ByteCount{other.from.size()})
      common_.trace.fail("two writes under way touch the same block at {}", to_string(range));
  submitted = op.bytes;
  if (on_submit) on_submit(range);
  Op write{Kind::kWrite, op.id, op.at, {}, op.bytes};
  write.keeps = !no_space;
  if (no_space) common_.counts.note(Fault::kNoSpace);
  start(std::move(write));
  return true;
}

bool ReplicaDisk::submit_persist(node::PersistOp&& op) {
  Op persist{Kind::kPersist, op.id};
  persist.content = std::move(op.content);
  persist.keeps = !(no_space && random_.chance(0.5));
  start(std::move(persist));
  return true;
}

bool ReplicaDisk::submit_history(node::KeepHistoryOp&& op) {
  start({Kind::kHistory, op.id});
  return true;
}

void ReplicaDisk::start(Op op) {
  const std::uint64_t token = ++tokens_;
  const Duration shown = some_time(),
                 durable = shown + (direct_ && op.kind != Kind::kPersist ? Duration{} : some_time());
  if (at_next_write && op.kind != Kind::kRead)
    common_.scheduler.after(random_.between({0}, durable + microseconds(5)), std::exchange(at_next_write, nullptr));
  common_.trace.say("disk", "{} operation {:X} kind {} keeps {} until {}", token, op.id, static_cast<int>(op.kind),
                    op.keeps, (common_.now() + durable).ns);
  ops_.emplace(token, std::move(op));
  common_.scheduler.after(shown, [this, token] { show(token); });
  common_.scheduler.after(durable, [this, token] { finish(token); });
}

void ReplicaDisk::perform(const Op& op) {
  if (op.kind == Kind::kPersist) return state.rename(op.content);
  if (op.kind != Kind::kWrite) return;
  const std::span<const std::byte> bytes = op.visible ? std::span<const std::byte>(op.content) : op.from;
  reserve(op.at + ByteCount{bytes.size()});
  std::ranges::copy(bytes, place(cache_, index(op.at)));
  for (std::size_t i = 0; i < bytes.size(); i += kSectorBytes) dirty_.insert((index(op.at) + i) / kSectorBytes);
}

void ReplicaDisk::show(std::uint64_t token) {
  const auto it = ops_.find(token);
  if (it == ops_.end() || !it->second.keeps) return;
  Op& op = it->second;
  if (error > 0 && random_.chance(error)) {
    common_.counts.note(Fault::kWriteError);
    common_.trace.note("disk", "fails", op.id);
    return io_error();
  }
  if (op.kind != Kind::kRead && step()) return;
  if (op.kind == Kind::kWrite) op.content.assign(op.from.begin(), op.from.end());
  op.visible = true;
  op.partly = op.kind == Kind::kWrite && in_parts > 0 && random_.chance(in_parts);
  if (op.partly) {
    common_.counts.note(Fault::kShortWrite);
    Op part{Kind::kWrite, op.id, op.at, {}, op.from.first(random_.below(op.from.size() / kSectorBytes) * kSectorBytes)};
    if (!part.from.empty()) perform(part);
  } else {
    perform(op);
  }
  if (op.kind != Kind::kRead) (void)step();
}

void ReplicaDisk::finish(std::uint64_t token) {
  const auto it = ops_.find(token);
  if (it == ops_.end()) return;
  const bool boundary = it->second.keeps && it->second.kind != Kind::kRead;
  if (boundary && step()) return;
  const Op op = std::move(it->second);
  ops_.erase(it);
  common_.trace.say("disk", "{} operation {:X} done", token, op.id);
  node::DiskDone done{op.id, op.keeps ? node::DiskStatus::kOk : node::DiskStatus::kNoSpace};
  if (op.kind == Kind::kRead) {
    const std::size_t from = index(op.at);
    if (from + op.into.size() > cache_.size() || op.at < begin_)
      done.status = node::DiskStatus::kMissing;
    else
      std::copy_n(place(cache_, from), op.into.size(), op.into.begin());
  } else if (op.kind == Kind::kPersist && op.keeps) {
    state.sync();
    on_state_durable();
  } else if (op.kind == Kind::kWrite && op.keeps) {
    if (op.partly) perform(op);
    std::ranges::copy(op.content, place(durable_, index(op.at)));
    for (std::size_t i = 0; i < op.content.size(); i += kSectorBytes) dirty_.erase((index(op.at) + i) / kSectorBytes);
    on_durable({op.at, op.at + ByteCount{op.content.size()}});
  }
  if (boundary && step()) return;  // Durable, and nobody was told.
  done_.push_back(done);
  wake();
}

std::size_t ReplicaDisk::complete(std::span<node::DiskDone> done) {
  std::size_t count = 0;
  for (; count < done.size() && !done_.empty(); ++count) {
    done[count] = done_.front();
    done_.pop_front();
  }
  return count;
}

std::size_t ReplicaDisk::read(Lsn at, std::span<std::byte> out) {
  const std::size_t from = index(at);
  if (from >= cache_.size() || at < begin_) return 0;
  std::size_t count = std::min(out.size(), cache_.size() - from);
  if (short_random_.chance(0.2)) {
    common_.counts.note(Fault::kShortRead);
    count = short_random_.from_to(1, count);
  }
  std::copy_n(place(cache_, from), count, out.begin());
  return count;
}

void ReplicaDisk::process_died() {
  for (auto& [token, op] : ops_) {
    if (op.visible || !op.keeps || op.kind == Kind::kRead || !random_.chance(0.5)) continue;
    if (op.kind == Kind::kWrite) op.from = op.from.first(random_.from_to(1, op.from.size() / 4096) * 4096);
    perform(op);
  }
  ops_.clear();
  done_.clear();
}

void ReplicaDisk::sync_state() {
  if (state.visible() == state.durable()) return;
  state.sync();
  on_state_durable();
}

bool ReplicaDisk::clear_from(Lsn at) {
  const std::size_t from = index(at);
  if (from >= cache_.size()) return true;
  std::fill(place(cache_, from), cache_.end(), std::byte{0});
  for (std::size_t sector = from / kSectorBytes; sector * kSectorBytes < cache_.size(); ++sector) dirty_.insert(sector);
  if (step()) return false;
  sync(at);
  return !step();
}

bool ReplicaDisk::replace_state(std::vector<std::byte> content) {
  state.rename(std::move(content));
  if (step()) return false;
  sync_state();
  return !step();
}

void ReplicaDisk::power_lost() {
  if (state.power_lost(random_)) common_.counts.note(Fault::kStateReverted);
  bool kept = false, lost = false;
  const double share = random_.chance(0.3) ? 0 : random_.chance(0.3) ? 1 : 0.5;
  for (const std::uint64_t sector : dirty_) {
    const bool keep = random_.chance(share);
    (keep ? kept : lost) = true;
    const std::size_t from = static_cast<std::size_t>(sector) * kSectorBytes;
    if (keep) std::copy_n(place(cache_, from), kSectorBytes, place(durable_, from));
  }
  if (kept && lost) common_.counts.note(Fault::kTornWrite);
  if (lost) common_.counts.note(Fault::kLostWrite);
  dirty_.clear();
  cache_ = durable_;
  on_state_durable();
  on_durable({kOrigin, kOrigin + ByteCount{durable_.size()}});
}

void ReplicaDisk::sync(Lsn from) {
  const std::size_t first = std::min(index(from), cache_.size());
  dirty_.erase(dirty_.lower_bound(first / kSectorBytes), dirty_.end());
  std::copy(place(cache_, first), cache_.end(), place(durable_, first));
  on_durable({from, kOrigin + ByteCount{durable_.size()}});
}

void ReplicaDisk::restore(const Copy& copy) {
  ops_.clear(), done_.clear(), dirty_.clear();
  cache_ = durable_ = copy.log;
  begin_ = copy.begin;
  restore_state(copy);
  on_durable({kOrigin, kOrigin + ByteCount{durable_.size()}});
}

void ReplicaDisk::restore_state(const Copy& copy) {
  state.make(copy.state);
  on_state_durable();
}

void ReplicaDisk::make_empty(std::vector<std::byte> content) {
  ops_.clear(), done_.clear(), dirty_.clear();
  cache_.clear(), durable_.clear();
  begin_ = kOrigin;
  state.make(std::move(content));
  on_state_durable();
  on_durable({kOrigin, kOrigin});
}

}  // namespace slipstream::sim
