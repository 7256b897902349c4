#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/time.h"
#include "seal/noise.h"
#include "seal/session.h"

// How two hosts agree on a session's keys:
//
//   initiator                                     responder
//   KeyRequest: its ephemeral key         ──▶     keeps nothing
//                                         ◀──     KeyCookie: only who gets what is sent to that host can go on
//   KeyOpen: the cookie, Noise's first    ──▶     computes; a session, used once a frame under it came
//                                         ◀──     KeyReply: Noise's second
//
// Whoever lacks the cluster key is turned away for the price of one HMAC.
namespace slipstream::seal {

constexpr std::size_t kCookieBytes = 16;
constexpr std::size_t kNoiseBytes = kKeyBytes + 8 + kTagBytes;  // A message: key, payload, tag.
using Cookie = std::array<std::byte, kCookieBytes>;
using NoiseMessage = std::array<std::byte, kNoiseBytes>;

struct KeyRequest {
  PublicKey ephemeral{};
  Cookie mac{};  // By the cluster key.
  bool operator==(const KeyRequest&) const = default;
};
struct KeyCookie {
  PublicKey ephemeral{};  // The request's.
  Cookie cookie{};
  Cookie mac{};
  bool operator==(const KeyCookie&) const = default;
};
struct KeyOpen {
  Cookie cookie{};
  NoiseMessage message{};
  bool operator==(const KeyOpen&) const = default;
};
struct KeyReply {
  NoiseMessage message{};
  bool operator==(const KeyReply&) const = default;
};

struct ExchangeParty {
  std::string name;
  NodeId id;
};

// What both sides know before.
struct ExchangeConfig {
  KeyPair own;
  PublicKey peer{};
  Secret cluster_key;
  ExchangeParty initiator, responder;
  std::uint64_t rekey_packets = kRekeyPackets;
  RandomSource random;
};

class Initiator {
 public:
  explicit Initiator(ExchangeConfig config) : config_(std::move(config)) {}

  // Begins, with a new ephemeral key, or repeats what is under way for as long as a peer far away may need.
  KeyRequest request(Instant now);
  std::optional<KeyOpen> on_cookie(const KeyCookie& cookie);
  std::optional<Session> on_reply(const KeyReply& reply);

 private:
  struct Attempt {
    KeyRequest request;
    NoiseHandshake noise;
    std::uint32_t session_id = 0;
    Instant begun;
    std::optional<NoiseMessage> first;
  };
  ExchangeConfig config_;
  std::optional<Attempt> attempt_;
};

class Responder {
 public:
  explicit Responder(ExchangeConfig config);

  std::optional<KeyCookie> on_request(const KeyRequest& request, Instant now);
  struct Accepted {
    KeyReply reply;
    std::optional<Session> session;  // None: the same message as last time, answered as then.
  };
  enum class Refusal : std::uint8_t { kBadCookie, kNotThePeer };
  std::expected<Accepted, Refusal> on_open(const KeyOpen& open, Instant now);
  // A frame came under the last session: what was sent before to open one cannot open another.
  void on_confirmed();

 private:
  void renew_cookies(Instant now);
  Cookie cookie_for(const Secret& secret, std::span<const std::byte> ephemeral) const;
  bool is_ours(const KeyOpen& open) const;

  ExchangeConfig config_;
  Secret cookie_secret_;
  std::optional<Secret> cookie_secret_before_;
  Instant cookies_renewed_{};
  std::optional<NoiseMessage> last_;  // The last one that was accepted, and its answer.
  KeyReply last_reply_;
};

}  // namespace slipstream::seal
