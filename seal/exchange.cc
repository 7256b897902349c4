#include "seal/exchange.h"

#include <algorithm>

#include "base/bytes.h"

namespace slipstream::seal {
namespace {

constexpr Duration kAttemptLasts = seconds(5);
constexpr Duration kCookieLasts = seconds(60);

Cookie mac(const Secret& key, std::string_view label, std::span<const std::byte> first,
           std::span<const std::byte> second = {}) {
  const Hash whole = hmac_sha256(key.bytes(), {as_bytes(label), first, second});
  Cookie out;
  std::copy_n(whole.begin(), out.size(), out.begin());
  return out;
}

Cookie request_mac(const ExchangeConfig& config, const PublicKey& ephemeral) {
  return mac(config.cluster_key, "slipstream key request", ephemeral);
}
Cookie cookie_mac(const ExchangeConfig& config, const KeyCookie& cookie) {
  return mac(config.cluster_key, "slipstream key cookie", cookie.ephemeral, cookie.cookie);
}

// Names, roles and the version of all this: whoever has them otherwise agrees on nothing.
std::vector<std::byte> prologue(const ExchangeConfig& config) {
  std::vector<std::byte> out;
  const auto add = [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); };
  add(as_bytes("slipstream seal 1"));
  for (const ExchangeParty* party : {&config.initiator, &config.responder}) {
    std::array<std::byte, 4> numbers;
    ByteWriter writer(numbers);
    writer.le(party->id.value);
    writer.le(static_cast<std::uint16_t>(party->name.size()));
    add(numbers);
    add(as_bytes(party->name));
  }
  return out;
}

KeyPair new_key_pair(const RandomSource& random) { return key_pair_of(Secret::random(random)); }

std::uint32_t new_session_id(const RandomSource& random) {
  for (;;) {
    std::array<std::byte, 4> bytes{};
    random(bytes);
    if (const auto id = ByteReader(bytes).le<std::uint32_t>() & kSessionIdMax; id != 0) return id;
  }
}

// A message's payload: the session's number, and 4 bytes that are zero.
std::array<std::byte, 8> payload(std::uint32_t session_id) {
  std::array<std::byte, 8> out{};
  ByteWriter(out).le(session_id);
  return out;
}
std::uint32_t session_id_in(std::span<const std::byte> payload) {
  return ByteReader(payload).le<std::uint32_t>() & kSessionIdMax;
}

NoiseMessage message(NoiseHandshake& noise, std::uint32_t session_id) {
  const auto bytes = noise.write(payload(session_id));
  NoiseMessage out;
  CHECK(bytes.size() == out.size());
  std::ranges::copy(bytes, out.begin());
  return out;
}

}  // namespace

KeyRequest Initiator::request(Instant now) {
  if (attempt_ && now - attempt_->begun < kAttemptLasts) return attempt_->request;
  const KeyPair ephemeral = new_key_pair(config_.random);
  attempt_.emplace(Attempt{{ephemeral.public_key, request_mac(config_, ephemeral.public_key)},
                           NoiseHandshake(NoiseHandshake::Side::kInitiator, config_.own, config_.peer,
                                          config_.cluster_key, prologue(config_), ephemeral),
                           new_session_id(config_.random),
                           now,
                           std::nullopt});
  return attempt_->request;
}

std::optional<KeyOpen> Initiator::on_cookie(const KeyCookie& cookie) {
  if (!attempt_ || cookie.ephemeral != attempt_->request.ephemeral || !equal(cookie.mac, cookie_mac(config_, cookie)))
    return std::nullopt;
  if (!attempt_->first) attempt_->first = message(attempt_->noise, attempt_->session_id);
  return KeyOpen{cookie.cookie, *attempt_->first};
}

std::optional<Session> Initiator::on_reply(const KeyReply& reply) {
  if (!attempt_ || !attempt_->first) return std::nullopt;
  NoiseHandshake noise = attempt_->noise;  // A forged reply must not spoil the attempt.
  const auto read = noise.read(reply.message);
  if (!read || session_id_in(*read) == 0) return std::nullopt;
  const auto roots = noise.roots();
  Session out{Sealing(roots.initiator_to_responder, session_id_in(*read), config_.rekey_packets),
              Opening(roots.responder_to_initiator, attempt_->session_id)};
  attempt_.reset();
  return out;
}

Responder::Responder(ExchangeConfig config)
    : config_(std::move(config)), cookie_secret_(Secret::random(config_.random)) {}

void Responder::renew_cookies(Instant now) {
  if (now - cookies_renewed_ < kCookieLasts) return;
  cookies_renewed_ = now;
  cookie_secret_before_ = cookie_secret_;
  cookie_secret_ = Secret::random(config_.random);
}

void Responder::on_confirmed() {
  cookie_secret_ = Secret::random(config_.random);
  cookie_secret_before_.reset();
  last_.reset();
}

Cookie Responder::cookie_for(const Secret& secret, std::span<const std::byte> ephemeral) const {
  return mac(secret, "slipstream cookie", ephemeral);
}

std::optional<KeyCookie> Responder::on_request(const KeyRequest& request, Instant now) {
  if (!equal(request.mac, request_mac(config_, request.ephemeral))) return std::nullopt;
  renew_cookies(now);
  KeyCookie out{request.ephemeral, cookie_for(cookie_secret_, request.ephemeral), {}};
  out.mac = cookie_mac(config_, out);
  return out;
}

bool Responder::is_ours(const KeyOpen& open) const {
  const auto ephemeral = std::span(open.message).first(kKeyBytes);
  return equal(open.cookie, cookie_for(cookie_secret_, ephemeral)) ||
         (cookie_secret_before_ && equal(open.cookie, cookie_for(*cookie_secret_before_, ephemeral)));
}

std::expected<Responder::Accepted, Responder::Refusal> Responder::on_open(const KeyOpen& open, Instant now) {
  renew_cookies(now);
  if (!is_ours(open)) return std::unexpected(Refusal::kBadCookie);
  if (last_ && *last_ == open.message) return Accepted{last_reply_, std::nullopt};
  NoiseHandshake noise(NoiseHandshake::Side::kResponder, config_.own, config_.peer, config_.cluster_key,
                       prologue(config_), new_key_pair(config_.random));
  const auto read = noise.read(open.message);
  if (!read || session_id_in(*read) == 0) return std::unexpected(Refusal::kNotThePeer);
  const std::uint32_t session_id = new_session_id(config_.random);
  last_ = open.message;
  last_reply_ = {message(noise, session_id)};
  const auto roots = noise.roots();
  return Accepted{last_reply_,
                  Session{Sealing(roots.responder_to_initiator, session_id_in(*read), config_.rekey_packets),
                          Opening(roots.initiator_to_responder, session_id)}};
}

}  // namespace slipstream::seal
