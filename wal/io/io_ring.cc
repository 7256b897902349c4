#include "wal/io/io_ring.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

#include "base/check.h"

namespace slipstream::wal::io {
namespace {

constexpr unsigned kFileSlots = 64;
constexpr std::size_t kRegionBytesMax = std::size_t{1} << 30;  // Of one registered buffer (io_uring_register(2)).
constexpr std::uint64_t kSyncMark = std::uint64_t{1}
                                    << 63;  // Marks writes that a sync follows; the rest is their index.
constexpr std::uint64_t kNoUser = ~std::uint64_t{0};

Error unavailable(int problem) {
  return {ExitCode::kStorage,
          std::string("io_uring is not available (") + std::strerror(problem) +
              "): reading and writing with pread and pwrite, which is slower",
          "",
          "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile, and set "
          "kernel.io_uring_disabled to 0"};
}

}  // namespace

struct IoRing::Impl {
  struct SyncedWrite {
    std::uint64_t user = kNoUser;  // kNoUser: free.
    int fd = -1;
    std::size_t bytes = 0;
    bool syncing = false;
  };

  io_uring ring{};
  std::size_t entries = 0;
  std::size_t under_way = 0;  // At most `entries`, so neither queue ever overflows.
  int event = -1;             // Signalled by the kernel with each completion.
  bool blocking = false;
  bool enabled = false;
  std::optional<Error> problem;
  std::string note;
  std::vector<std::span<std::byte>> regions;
  std::vector<int> slots;  // Registered files: descriptor, or -1.
  std::vector<SyncedWrite> synced_writes;
  std::deque<Completion> done;  // Of blocking operations.

  int open(unsigned count);
  void enable();
  int region_of(const void* at, std::size_t bytes) const;
  io_uring_sqe* next_sqe();
  void set_file(io_uring_sqe* sqe, int fd) const;
  bool queue_write(int fd, std::span<const std::byte> from, std::uint64_t offset, int flags, std::uint64_t user);
  std::optional<Completion> on_cqe(std::uint64_t user, int result);
  // Work that the kernel left to the next call.
  unsigned left() const { return IO_URING_READ_ONCE(*ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW); }
  bool has_ended() const { return left() != 0 || io_uring_cq_ready(&ring) > 0; }
};

int IoRing::Impl::open(unsigned count) {
  // The best flags first. With DEFER_TASKRUN completions are run by reap() instead of interrupting us, and TASKRUN_FLAG
  // tells without a system call whether there are any. The ring starts disabled: SINGLE_ISSUER binds it to the thread
  // that enables it, which need not be the one that makes it.
  constexpr unsigned kDeferred = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  constexpr unsigned kCooperative = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  int result = -EINVAL;
  for (const unsigned flags : {kDeferred, kCooperative, 0u}) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_R_DISABLED;
    result = io_uring_queue_init_params(count, &ring, &params);
    if (result != -EINVAL) break;
  }
  if (result != 0) return -result;
  slots.assign(kFileSlots, -1);
  if (io_uring_register_files_sparse(&ring, kFileSlots) != 0 &&
      io_uring_register_files(&ring, slots.data(), kFileSlots) != 0)
    slots.clear();
  event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event >= 0 && io_uring_register_eventfd(&ring, event) != 0) {
    ::close(event);
    event = -1;
  }
  return 0;
}

void IoRing::Impl::enable() {
  if (enabled) return;
  CHECK(syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) ==
        0);  // liburing 2.3 does not export its wrapper.
  enabled = true;
}

int IoRing::Impl::region_of(const void* at, std::size_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(at);
  for (std::size_t i = 0; i < regions.size(); ++i)
    if (begin >= regions[i].data() && begin + bytes <= regions[i].data() + regions[i].size())
      return static_cast<int>(i);
  return -1;
}

io_uring_sqe* IoRing::Impl::next_sqe() {
  enable();
  if (under_way >= entries) return nullptr;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring);
  if (sqe) ++under_way;
  return sqe;
}

void IoRing::Impl::set_file(io_uring_sqe* sqe, int fd) const {
  const auto slot = std::ranges::find(slots, fd);
  if (slot == slots.end()) return;
  sqe->fd = static_cast<int>(slot - slots.begin());
  sqe->flags |= IOSQE_FIXED_FILE;
}

bool IoRing::Impl::queue_write(int fd, std::span<const std::byte> from, std::uint64_t offset, int flags,
                               std::uint64_t user) {
  io_uring_sqe* sqe = next_sqe();
  if (!sqe) return false;
  const int region = region_of(from.data(), from.size());
  const auto bytes = static_cast<unsigned>(from.size());
  if (region >= 0)
    io_uring_prep_write_fixed(sqe, fd, from.data(), bytes, offset, region);
  else
    io_uring_prep_write(sqe, fd, from.data(), bytes, offset);
  sqe->rw_flags = flags;
  set_file(sqe, fd);
  io_uring_sqe_set_data64(sqe, user);
  return true;
}

// What an ended entry means to the caller: nothing yet when its sync goes on.
std::optional<IoRing::Completion> IoRing::Impl::on_cqe(std::uint64_t user, int result) {
  CHECK(under_way > 0);
  --under_way;
  if ((user & kSyncMark) == 0) return Completion{user, result};
  SyncedWrite& write = synced_writes[user & ~kSyncMark];
  if (!write.syncing && result >= 0 && static_cast<std::size_t>(result) == write.bytes) {
    // Not linked to the write beforehand: a chain can be torn when the kernel is short of memory, and the sync then
    // runs too early.
    io_uring_sqe* sqe = next_sqe();
    CHECK(sqe != nullptr);  // The write's own place.
    io_uring_prep_fsync(sqe, write.fd, IORING_FSYNC_DATASYNC);
    set_file(sqe, write.fd);
    io_uring_sqe_set_data64(sqe, user);
    write.syncing = true;
    return std::nullopt;
  }
  const Completion completion{write.user, write.syncing && result == 0 ? static_cast<int>(write.bytes) : result};
  write = {};
  return completion;
}

IoRing::IoRing(unsigned entries, bool force_blocking) : impl_(std::make_unique<Impl>()) {
  impl_->entries = entries;
  const int problem = force_blocking ? EPERM : impl_->open(entries);
  impl_->blocking = problem != 0;
  if (!impl_->blocking) return;
  impl_->problem = unavailable(problem);
  impl_->note = impl_->problem->message();
}

IoRing::~IoRing() {
  if (impl_->blocking) return;
  finish();
  io_uring_queue_exit(&impl_->ring);
  if (impl_->event >= 0) ::close(impl_->event);
}

void IoRing::register_memory(std::span<const std::span<std::byte>> regions) {
  if (impl_->blocking) return;
  CHECK(impl_->under_way == 0 && impl_->regions.empty());
  std::vector<iovec> vectors;
  std::vector<std::span<std::byte>> pieces;
  for (std::span<std::byte> rest : regions) {
    while (!rest.empty()) {
      pieces.push_back(rest.first(std::min(rest.size(), kRegionBytesMax)));
      vectors.push_back({pieces.back().data(), pieces.back().size()});
      rest = rest.subspan(pieces.back().size());
    }
  }
  if (io_uring_register_buffers(&impl_->ring, vectors.data(), static_cast<unsigned>(vectors.size())) == 0)
    impl_->regions = std::move(pieces);
}

void IoRing::add_file(int fd) {
  if (impl_->blocking) return;
  impl_->enable();
  const auto slot = std::ranges::find(impl_->slots, -1);
  if (slot == impl_->slots.end()) return;
  if (io_uring_register_files_update(&impl_->ring, static_cast<unsigned>(slot - impl_->slots.begin()), &fd, 1) == 1)
    *slot = fd;
}

void IoRing::remove_file(int fd) {
  const auto slot = std::ranges::find(impl_->slots, fd);
  if (slot == impl_->slots.end()) return;
  const int none = -1;
  io_uring_register_files_update(&impl_->ring, static_cast<unsigned>(slot - impl_->slots.begin()), &none, 1);
  *slot = -1;
}

bool IoRing::read(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t user) {
  CHECK((user & kSyncMark) == 0);
  if (impl_->blocking) {
    const ssize_t got = pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    impl_->done.push_back({user, got < 0 ? -errno : static_cast<int>(got)});
    return true;
  }
  io_uring_sqe* sqe = impl_->next_sqe();
  if (!sqe) return false;
  const int region = impl_->region_of(into.data(), into.size());
  const auto bytes = static_cast<unsigned>(into.size());
  if (region >= 0)
    io_uring_prep_read_fixed(sqe, fd, into.data(), bytes, offset, region);
  else
    io_uring_prep_read(sqe, fd, into.data(), bytes, offset);
  impl_->set_file(sqe, fd);
  io_uring_sqe_set_data64(sqe, user);
  return true;
}

bool IoRing::write(int fd, std::span<const std::byte> from, std::uint64_t offset, bool durable, std::uint64_t user) {
  CHECK((user & kSyncMark) == 0);
  const int flags = durable ? RWF_DSYNC : 0;
  if (!impl_->blocking) return impl_->queue_write(fd, from, offset, flags, user);
  const iovec vector{const_cast<std::byte*>(from.data()), from.size()};
  const ssize_t put = pwritev2(fd, &vector, 1, static_cast<off_t>(offset), flags);
  impl_->done.push_back({user, put < 0 ? -errno : static_cast<int>(put)});
  return true;
}

bool IoRing::write_then_sync(int fd, std::span<const std::byte> from, std::uint64_t offset, std::uint64_t user) {
  CHECK((user & kSyncMark) == 0);
  if (impl_->blocking) {
    const ssize_t put = pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
    const bool ended = put >= 0 && fdatasync(fd) == 0;
    impl_->done.push_back({user, ended ? static_cast<int>(put) : -errno});
    return true;
  }
  auto& writes = impl_->synced_writes;
  auto free = std::ranges::find(writes, kNoUser, &Impl::SyncedWrite::user);
  if (free == writes.end()) free = writes.emplace(writes.end());
  if (!impl_->queue_write(fd, from, offset, 0, kSyncMark | static_cast<std::uint64_t>(free - writes.begin())))
    return false;
  *free = {user, fd, from.size(), false};
  return true;
}

void IoRing::submit() {
  if (impl_->blocking || io_uring_sq_ready(&impl_->ring) == 0) return;
  const int result = io_uring_submit(&impl_->ring);
  CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
}

std::size_t IoRing::reap(std::span<Completion> out) {
  std::size_t count = 0;
  for (; count < out.size() && !impl_->done.empty(); impl_->done.pop_front()) out[count++] = impl_->done.front();
  if (impl_->blocking || impl_->under_way == 0) return count;
  io_uring* ring = &impl_->ring;
  if (impl_->left() != 0 || io_uring_sq_ready(ring) > 0) {
    const int result = io_uring_submit_and_get_events(ring);
    CHECK(result >= 0 || result == -EINTR || result == -EAGAIN ||
          result == -EBUSY);  // -EEXIST: a second thread uses the ring.
  }
  io_uring_cqe* cqe = nullptr;
  while (count < out.size() && io_uring_cq_ready(ring) > 0 && io_uring_peek_cqe(ring, &cqe) == 0) {
    const auto completion = impl_->on_cqe(io_uring_cqe_get_data64(cqe), cqe->res);
    io_uring_cqe_seen(ring, cqe);
    if (completion) out[count++] = *completion;
  }
  return count;
}

void IoRing::finish() {
  impl_->done.clear();
  while (!impl_->blocking && impl_->under_way > 0) {
    const int result = io_uring_submit_and_wait(&impl_->ring, 1);
    // The thread that used the ring has ended, and the kernel has ended what was under way before it let that thread
    // go.
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) return;
    io_uring_cqe* cqe = nullptr;
    while (io_uring_cq_ready(&impl_->ring) > 0 && io_uring_peek_cqe(&impl_->ring, &cqe) == 0) {
      impl_->on_cqe(io_uring_cqe_get_data64(cqe), cqe->res);
      io_uring_cqe_seen(&impl_->ring, cqe);
    }
  }
}

std::size_t IoRing::under_way() const { return impl_->under_way + impl_->done.size(); }
// Only with DEFER_TASKRUN: there the kernel leaves the work, with a full barrier, before it looks whether to tell.
bool IoRing::tell(bool on) {
  if (impl_->blocking) return impl_->done.empty();
  io_uring* ring = &impl_->ring;
  if ((ring->flags & IORING_SETUP_DEFER_TASKRUN) == 0) return true;
  (void)io_uring_cq_eventfd_toggle(ring, on);
  if (!on) return true;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return !impl_->has_ended();
}

int IoRing::event_fd() const { return impl_->blocking ? -1 : impl_->event; }
bool IoRing::blocking() const { return impl_->blocking; }
const std::optional<Error>& IoRing::problem() const { return impl_->problem; }
const std::string& IoRing::note() const { return impl_->note; }

}  // namespace slipstream::wal::io
