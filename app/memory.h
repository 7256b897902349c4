#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <span>
#include <utility>

namespace slipstream::app {

// Page-aligned memory for the data thread, touched at once so that no page fault comes later. Huge pages where the
// kernel gives them.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    at_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at_ == MAP_FAILED) throw std::bad_alloc();
    madvise(at_, bytes, MADV_HUGEPAGE);
  }
  ~Memory() { munmap(at_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::span<std::byte> span() { return {static_cast<std::byte*>(at_), bytes_}; }

 private:
  void* at_;
  std::size_t bytes_;
};

}  // namespace slipstream::app
