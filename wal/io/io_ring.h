#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace slipstream::wal::io {

// Reads and writes files without waiting, through one io_uring. Where the kernel or a container forbids io_uring, the
// same calls are served at once by pread and pwritev2, which wait; problem() says so. Guarantees: (1) An operation that
// was accepted completes exactly once, in any order, with bytes or a negative errno.
//   (2) Nothing waits but finish() and the destructor, unless blocking().
//   (3) After the destructor no accepted operation touches its memory any more.
// Ownership: memory and descriptors are the caller's, and stay open and in place until the operation has completed.
// Threading: made and prepared (register_memory) on any thread, then used by one: that of the first read, write,
// add_file or reap. It may be destroyed by another one when that thread has ended. Registered memory and files are used
// where they can be; neither is needed.
class IoRing {
 public:
  struct Completion {
    std::uint64_t user = 0;
    int result = 0;  // Bytes, or a negative errno.
  };

  explicit IoRing(unsigned entries = 128,
                  bool force_blocking = false);  // `entries`: how many operations may be under way.
  ~IoRing();
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;

  // Memory that operations use often. Best effort, once, before the first operation.
  void register_memory(std::span<const std::span<std::byte>> regions);

  // An open file that is used often; best effort. Remove it before closing it, when none of its operations is under
  // way.
  void add_file(int fd);
  void remove_file(int fd);

  // `user` is below 2^63 and comes back with the completion. False: no room now, try again after reap().
  bool read(int fd, std::span<std::byte> into, std::uint64_t offset, std::uint64_t user);
  bool write(int fd, std::span<const std::byte> from, std::uint64_t offset, bool durable,
             std::uint64_t user);  // durable: RWF_DSYNC.
  // For file systems without O_DIRECT: the write, then fdatasync. A short result is not durable yet, the rest's write
  // makes it so.
  bool write_then_sync(int fd, std::span<const std::byte> from, std::uint64_t offset, std::uint64_t user);

  void submit();  // Starts what was queued; reap() does that too.
  // Submits what was queued and takes what has ended: at most one system call, none when there is nothing to do.
  std::size_t reap(std::span<Completion> out);
  // Waits until nothing is under way; what ends here is not reported. For the end of a reader or writer.
  void finish();
  std::size_t under_way() const;

  // An eventfd that becomes readable when something has ended and reap() will give it; -1 where the kernel has none to
  // give, or when blocking(). It may also tell what was reaped already.
  int event_fd() const;
  // For the thread that reaps: nothing is told while it looks anyway (each telling costs it a wake-up and a read).
  // Before it sleeps it calls tell(true), and does not sleep when that says false: reap() has something now.
  bool tell(bool on);

  bool blocking() const;
  const std::optional<Error>& problem() const;  // Why io_uring is not used.
  const std::string& note() const;              // The same as text; empty when io_uring is used.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace slipstream::wal::io
