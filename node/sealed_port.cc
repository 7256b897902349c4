#include "node/sealed_port.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

namespace slipstream::node {
namespace {

using protocol::FrameKind;
using protocol::Verdict;

constexpr Duration kRetry = milliseconds(100);
constexpr Duration kSilence = milliseconds(300);  // Three heartbeats.
constexpr Duration kSessionLasts = seconds(3600);
constexpr Duration kDisagreement = seconds(1);
constexpr Duration kAway = seconds(5);  // Without an answer: no member of the group any more.
constexpr int kReceiveTries = 4;        // When all frames of a burst were for us, or refused.

bool is_groups(FrameKind kind) { return kind == FrameKind::kGroupKey || kind == FrameKind::kGroupKeyHeld; }
constexpr std::array<std::byte, protocol::kFrameBytesMax> kPadding{};

bool is_path_probe(const OutFrame& frame) {
  protocol::Outside outside;
  return protocol::peek(std::span(frame.head).first(frame.head_bytes), outside) == Verdict::kAccepted &&
         outside.kind == FrameKind::kPathProbe;
}

bool is_exchange(FrameKind kind) { return kind >= FrameKind::kKeyRequest && kind <= FrameKind::kKeyReply; }

}  // namespace

struct SealedPort::Channel {
  NodeId id;
  std::optional<seal::Initiator> initiator;
  std::optional<seal::Responder> responder;
  // Agreed on and used; agreed on, but not seen in use by the initiator; the one before, whose frames may come late.
  std::optional<seal::Session> current, proposed, previous;
  std::optional<OutFrame> held;             // To be sent once there are keys.
  bool wanted = false;                      // Frames wait for keys.
  std::optional<Instant> unanswered_since;  // When the first frame was sent after the last that came.
  std::optional<Instant> unagreed_since;    // A cookie came, but no reply yet.
  Instant agreed{}, requested{};

  std::uint32_t group_key = 0;  // The latest it told it holds; 0: none in use.
  Instant group_told{};
  Lsn shared_end;            // Data below was sent before.
  seal::GroupOpening group;  // The other side's: what it was given.
};

SealedPort::SealedPort(Port& inner, SealOptions options, const std::vector<SealedPeer>& peers)
    : inner_(inner), options_(std::move(options)), sealed_(protocol::kFrameBytesMax) {
  for (const SealedPeer& peer : peers) {
    auto& added = channels_.emplace_back(std::make_unique<Channel>());
    added->id = peer.id;
    const seal::ExchangeParty self{options_.name, options_.id}, other{peer.name, peer.id};
    seal::ExchangeConfig config{options_.own,
                                peer.key,
                                options_.cluster_key,
                                options_.initiates ? self : other,
                                options_.initiates ? other : self,
                                options_.rekey_packets,
                                options_.random};
    if (options_.initiates)
      added->initiator.emplace(std::move(config));
    else
      added->responder.emplace(std::move(config));
  }
  if (options_.initiates && !options_.data_per_peer && peers.size() > 1)
    shared_.emplace(options_.random, options_.rekey_packets);
}
SealedPort::~SealedPort() = default;

SealedPort::Channel* SealedPort::channel(NodeId peer) const {
  const auto it = std::ranges::find_if(channels_, [&](const auto& each) { return each->id == peer; });
  return it == channels_.end() ? nullptr : it->get();
}

bool SealedPort::has_keys(NodeId peer) const {
  const Channel* found = channel(peer);
  return found && found->current;
}

bool SealedPort::disagrees(NodeId peer) const {
  const Channel* found = channel(peer);
  return found && found->unagreed_since && now_ - *found->unagreed_since > kDisagreement;
}

void SealedPort::begin_turn(Instant now) {
  now_ = now;
  inner_.begin_turn(now);
  for (const auto& each : channels_) {
    if (!each->initiator || now - each->requested < kRetry) continue;
    const bool silent = each->unanswered_since && now - *each->unanswered_since > kSilence;
    if (each->wanted || silent || (each->current && now - each->agreed > kSessionLasts)) request(*each);
  }
  if (shared_) tend_group();
}

void SealedPort::request(Channel& to) {
  to.requested = now_;
  send_exchange(to, to.initiator->request(now_));
}

void SealedPort::send_exchange(Channel& to, const protocol::Body& body) {
  protocol::FrameHeader header;
  header.flags = protocol::kMustUnderstand;
  header.source = options_.id, header.destination = to.id;
  out_.head_bytes = protocol::encode(header, body, out_.head);
  out_.payload = {};
  inner_.send(to.id, out_);
  inner_.flush();
}

void SealedPort::send(NodeId peer, const OutFrame& frame) {
  Channel* to = channel(peer);
  if (!to) return;
  if (!to->current) {
    if (frame.payload.empty()) to->held = frame;
    to->wanted = true;
    if (to->initiator && now_ - to->requested >= kRetry) request(*to);
    return;
  }
  if (!to->unanswered_since) to->unanswered_since = now_;
  if (const auto piece = shared_piece(*to, frame)) {
    protocol::seal_grouped_head(std::span(frame.head).first(frame.head_bytes), piece->seal, to->current->sealing,
                                out_.head);
    out_.head_bytes = protocol::kGroupedHeadBytes;
    out_.payload = piece->text, out_.shared_payload = piece->number;
    inner_.send(peer, out_);
    out_.shared_payload = 0;
    return;
  }
  if (shared_ && is_path_probe(frame)) return send_lengthened(*to, frame);
  send_sealed(*to, frame);
}

// What passes has to pass also with what sealing for a group adds to data.
void SealedPort::send_lengthened(Channel& to, OutFrame frame) {
  protocol::lengthen_path_probe(std::span(frame.head).first(frame.head_bytes), protocol::kGroupSealBytes);
  frame.payload = std::span(kPadding).first(frame.payload.size() + protocol::kGroupSealBytes);
  send_sealed(to, frame);
}

void SealedPort::send_sealed(Channel& to, const OutFrame& frame) {
  const auto head = std::span(frame.head).first(frame.head_bytes);
  const std::size_t bytes = head.size() + frame.payload.size();
  if (const auto place = inner_.append(to.id, bytes)) {
    if (!place->empty()) protocol::seal_frame(head, frame.payload, to.current->sealing, *place);
    return;
  }
  const auto sealed = std::span(sealed_).first(bytes);
  protocol::seal_frame(head, frame.payload, to.current->sealing, sealed);
  out_.head_bytes = 0;
  out_.payload = sealed;
  inner_.send(to.id, out_);
}

void SealedPort::flush() {
  if (shared_) shared_->end_burst();
  inner_.flush();
}

void SealedPort::send_held(Channel& to) {
  to.wanted = false;
  if (const auto held = std::exchange(to.held, std::nullopt)) {
    send(to.id, *held);
    inner_.flush();
  }
}

// ---- The group

// Keys go to all who are there, once there are several; who left takes a key along that is not used any more.
void SealedPort::tend_group() {
  const auto is_there = [&](const Channel& each) {
    return each.current && !(each.unanswered_since && now_ - *each.unanswered_since > kAway);
  };
  bool left = false;
  for (const auto& each : channels_)
    if (each->group_key != 0 && !is_there(*each)) each->group_key = 0, left = true;
  if (left || shared_->is_spent()) {
    shared_->renew();
    for (const auto& each : channels_) each->group_told = {};
  }
  if (left) shared_->forget_former();
  sharing_ = std::ranges::count_if(channels_, [&](const auto& each) { return is_there(*each); }) > 1;
  if (!sharing_) return;
  bool all_hold_it = true;
  for (const auto& each : channels_) {
    if (!is_there(*each) || each->group_key == shared_->key().id) continue;
    all_hold_it = false;
    if (now_ - each->group_told >= kRetry) tell_group_key(*each);
  }
  if (all_hold_it) shared_->forget_former();
}

void SealedPort::tell_group_key(Channel& to) {
  to.group_told = now_;
  send_body(to, protocol::GroupKey{shared_->key()});
}

void SealedPort::send_body(Channel& to, const protocol::Body& body) {
  protocol::FrameHeader header;
  header.source = options_.id, header.destination = to.id;
  OutFrame frame;
  frame.head_bytes = protocol::encode(header, body, frame.head);
  send(to.id, frame);
  seal::wipe(frame.head);
  inner_.flush();
}

// None: `frame` is sealed for its peer. A repair is nobody else's business, nor is what only this peer catches up on.
std::optional<SharedSealing::Piece> SealedPort::shared_piece(Channel& to, const OutFrame& frame) {
  protocol::Outside outside;
  if (!sharing_ || to.group_key == 0 || frame.payload.empty() || frame.head_bytes != protocol::kDataHeaderBytes ||
      protocol::peek(frame.head, outside) != Verdict::kAccepted)
    return std::nullopt;
  if (outside.position < to.shared_end) return std::nullopt;
  to.shared_end = outside.position + ByteCount{frame.payload.size()};
  return shared_->seal(to.group_key, frame.payload);
}

Verdict SealedPort::on_group_frame(Channel& from, const protocol::Arrival& arrival) {
  protocol::Frame frame;
  const Verdict verdict = protocol::decode(arrival, frame);
  seal::wipe(arrival.bytes());
  if (verdict != Verdict::kAccepted) return verdict;
  if (const auto* given = std::get_if<protocol::GroupKey>(&frame.body); given && from.responder) {
    from.group.add(given->key);
    send_body(from, protocol::GroupKeyHeld{given->key.id});
    return Verdict::kAccepted;
  }
  if (const auto* held = std::get_if<protocol::GroupKeyHeld>(&frame.body); held && shared_) {
    if (held->id == shared_->key().id) from.group_key = held->id;
    return Verdict::kAccepted;
  }
  return Verdict::kUnexpected;
}

// ---- Arrivals

std::size_t SealedPort::receive(std::span<protocol::Arrival> frames) {
  for (int i = 0; i < kReceiveTries; ++i) {
    const std::size_t arrived = inner_.receive(frames);
    std::size_t opened = 0;
    for (std::size_t k = 0; k < arrived; ++k)
      if (open(frames[k])) frames[opened++] = frames[k];
    if (arrived == 0 || opened > 0) return opened;
  }
  return 0;
}

// Whether it is for the node.
bool SealedPort::open(protocol::Arrival& frame) {
  protocol::Outside outside;
  Verdict verdict = protocol::peek(frame.bytes(), outside);
  Channel* from = verdict == Verdict::kAccepted ? channel(outside.source) : nullptr;
  if (verdict == Verdict::kAccepted && (!from || outside.destination != options_.id)) verdict = Verdict::kUnknownNode;
  if (verdict == Verdict::kAccepted) {
    if (outside.key != 0)
      verdict = open_sealed(*from, frame, outside.key);
    else if (is_exchange(outside.kind))
      verdict = on_exchange(*from, frame.bytes());
    else
      verdict = Verdict::kNotSealed;
  }
  const bool groups = verdict == Verdict::kAccepted && outside.key != 0 && is_groups(outside.kind);
  if (groups) verdict = on_group_frame(*from, frame);
  if (verdict != Verdict::kAccepted) refused_.count(verdict);
  return verdict == Verdict::kAccepted && outside.key != 0 && !groups;
}

Verdict SealedPort::open_sealed(Channel& from, protocol::Arrival& frame, std::uint32_t key) {
  const auto is_for = [&](const std::optional<seal::Session>& session) {
    return session && session->opening.session_id() == key >> 8;
  };
  auto* session = is_for(from.current)    ? &from.current
                  : is_for(from.proposed) ? &from.proposed
                  : is_for(from.previous) ? &from.previous
                                          : nullptr;
  if (!session) return Verdict::kUnknownKey;
  const Verdict verdict = protocol::open_frame(frame, (*session)->opening, from.group);
  if (verdict != Verdict::kAccepted) return verdict;
  from.unanswered_since.reset();
  if (session != &from.proposed) return verdict;
  // The initiator has the reply: it holds the keys that its message promised.
  from.previous = std::exchange(from.current, std::exchange(from.proposed, std::nullopt));
  from.agreed = now_;
  from.responder->on_confirmed();
  ++sessions_;
  send_held(from);
  return verdict;
}

Verdict SealedPort::on_exchange(Channel& from, std::span<const std::byte> bytes) {
  protocol::Frame frame;
  if (const Verdict verdict = protocol::decode(bytes, frame); verdict != Verdict::kAccepted) return verdict;
  if (const auto* asked = std::get_if<seal::KeyRequest>(&frame.body); asked && from.responder) {
    const auto cookie = from.responder->on_request(*asked, now_);
    if (!cookie) return Verdict::kForged;
    send_exchange(from, *cookie);
    return Verdict::kAccepted;
  }
  if (const auto* cookie = std::get_if<seal::KeyCookie>(&frame.body); cookie && from.initiator) {
    const auto opening = from.initiator->on_cookie(*cookie);
    if (!opening) return Verdict::kForged;
    if (!from.unagreed_since) from.unagreed_since = now_;
    send_exchange(from, *opening);
    return Verdict::kAccepted;
  }
  if (const auto* opening = std::get_if<seal::KeyOpen>(&frame.body); opening && from.responder) {
    auto accepted = from.responder->on_open(*opening, now_);
    if (!accepted)
      return accepted.error() == seal::Responder::Refusal::kBadCookie ? Verdict::kBadCookie : Verdict::kNotThePeer;
    if (accepted->session) from.proposed = std::move(accepted->session);
    send_exchange(from, accepted->reply);
    return Verdict::kAccepted;
  }
  if (const auto* reply = std::get_if<seal::KeyReply>(&frame.body); reply && from.initiator) {
    auto session = from.initiator->on_reply(*reply);
    if (!session) return Verdict::kNotThePeer;
    from.previous = std::exchange(from.current, std::move(session));
    from.group_key = 0;  // It may have been restarted.
    from.agreed = now_;
    from.unanswered_since.reset();
    from.unagreed_since.reset();
    ++sessions_;
    send_held(from);
    return Verdict::kAccepted;
  }
  return Verdict::kUnexpected;
}

}  // namespace slipstream::node
