#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

struct rte_mbuf;
struct rte_mempool;

namespace slipstream::dataplane {

// Buffers with payloads that go to several peers: each is copied once a burst, and hangs behind a head of its own in
// every packet, on devices that send chained buffers. A buffer lives until the last packet with it was sent; here it is
// kept until the burst's end. A table with one place for each number's last bits: payloads that meet are copied again.
class SharedPayloads {
 public:
  explicit SharedPayloads(rte_mempool* pool) : pool_(pool) {}
  ~SharedPayloads() { end_burst(); }
  SharedPayloads(const SharedPayloads&) = delete;
  SharedPayloads& operator=(const SharedPayloads&) = delete;

  // With the payload of this number (node::OutFrame::shared_payload); stays ours. Null: no buffer is left, or it is too
  // long for one.
  rte_mbuf* buffer(std::uint64_t number, std::span<const std::byte> payload);
  void end_burst();

 private:
  static constexpr std::size_t kPlaces = 256;
  struct Place {
    std::uint64_t number = 0;
    rte_mbuf* buffer = nullptr;
  };
  rte_mempool* pool_;
  std::array<Place, kPlaces> places_{};
  std::array<std::uint16_t, kPlaces> used_{};  // Those that hold a buffer.
  std::size_t used_count_ = 0;
};

}  // namespace slipstream::dataplane
