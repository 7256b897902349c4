#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/counters.h"
#include "node/io.h"
#include "node/shared_sealing.h"
#include "protocol/sealed_frame.h"
#include "seal/exchange.h"

namespace slipstream::node {

struct SealedPeer {
  NodeId id;
  std::string name;
  seal::PublicKey key{};
};

struct SealOptions {
  NodeId id;
  std::string name;
  bool initiates = false;  // The primary does.
  seal::KeyPair own;
  seal::Secret cluster_key;
  std::uint64_t rekey_packets = seal::kRekeyPackets;
  seal::RandomSource random;
  bool data_per_peer = false;  // Data is sealed for each peer, never once for all.
};

// Around a port: whatever the node sends is sealed, and what arrives is opened, or refused and counted. To the node it
// is a port with plaintext frames. Keys are agreed on when the first frame wants to be sent, anew when a peer has been
// silent for a while (it may have been restarted, and its keys with it) and once an hour.
// Guarantees: (1) Nothing the node sends leaves in plaintext. (2) The node gets only what the peer sealed whose number
// the frame bears as its source, each once. (3) Frames under the keys in use are sent and opened while new ones are
// agreed on: that stalls nothing. (4) A peer whose key exchange is flooded or forged keeps its session.
// Data that is sent to several peers in one burst for the first time is sealed once for all of them, under a key that
// each was given under its own (SharedSealing); all else, repairs too, for its peer. A peer that left knows no key in
// use. Threading: one thread.
class SealedPort : public Port {
 public:
  SealedPort(Port& inner, SealOptions options, const std::vector<SealedPeer>& peers);
  ~SealedPort() override;

  void begin_turn(Instant now) override;
  std::size_t receive(std::span<protocol::Arrival> frames) override;
  std::size_t room(NodeId peer) override { return inner_.room(peer); }
  // Until keys are agreed on, the latest frame is kept and sent then.
  void send(NodeId peer, const OutFrame& frame) override;
  void flush() override;
  std::size_t frame_bytes_max(NodeId peer) const override {
    return inner_.frame_bytes_max(peer) - (shared_ ? protocol::kGroupSealBytes : 0);
  }

  const VerdictCounters& refused() const { return refused_; }
  bool has_keys(NodeId peer) const;
  // It answers, but has not agreed on keys for a second: one side does not know the other's key, name or number.
  bool disagrees(NodeId peer) const;
  std::uint64_t sessions() const { return sessions_; }  // Agreed on so far, with all peers.
  // Data frames whose payload had been sealed for another peer.
  std::uint64_t shared_frames() const { return shared_ ? shared_->shared() : 0; }

 private:
  struct Channel;
  Channel* channel(NodeId peer) const;
  bool open(protocol::Arrival& frame);
  protocol::Verdict open_sealed(Channel& from, protocol::Arrival& frame, std::uint32_t key);
  protocol::Verdict on_exchange(Channel& from, std::span<const std::byte> frame);
  void request(Channel& to);
  void send_exchange(Channel& to, const protocol::Body& body);
  void send_held(Channel& to);
  void send_sealed(Channel& to, const OutFrame& frame);
  void send_lengthened(Channel& to, OutFrame frame);
  void tend_group();
  void tell_group_key(Channel& to);
  std::optional<SharedSealing::Piece> shared_piece(Channel& to, const OutFrame& frame);
  protocol::Verdict on_group_frame(Channel& from, const protocol::Arrival& arrival);
  void send_body(Channel& to, const protocol::Body& body);

  Port& inner_;
  SealOptions options_;
  std::vector<std::unique_ptr<Channel>> channels_;
  std::optional<SharedSealing> shared_;  // The primary's.
  bool sharing_ = false;                 // With several peers at present.
  std::vector<std::byte> sealed_;        // The frame being sent.
  OutFrame out_;
  Instant now_{};
  VerdictCounters refused_;
  std::uint64_t sessions_ = 0;
};

}  // namespace slipstream::node
