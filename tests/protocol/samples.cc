#include "tests/protocol/samples.h"

#include <algorithm>

#include "tests/protocol/renew_tag.h"

namespace slipstream::protocol {
namespace {

FrameHeader header(FrameKind kind) {
  FrameHeader h;
  h.kind = kind;
  h.cluster = SystemId{0x0102030405060708};
  h.stream = 0x0a0b0c0d;
  h.source = NodeId{0x1112};
  h.destination = NodeId{0x2122};
  h.session = SessionId{0x3132333435363738};
  h.packet_number = 0x4142434445464748;
  h.epoch = {0x51525354, 0x55565758};
  h.timeline = TimelineId{0x61626364};
  h.flushed_end = Lsn{0x7172737475767778};
  h.confirmed_end = Lsn{0x7172737475767770};
  h.sent_at = 0x8182838485868788;
  return h;
}

Ack full_ack() {
  Ack ack;
  ack.received_end = Lsn{0x5000};
  ack.durable_end = Lsn{0x4000};
  ack.applied_end = Lsn{0x2000};
  ack.final_end = Lsn{0x3000};
  ack.window_end = Lsn{0x900000};
  ack.echo_sent_at = 0x1122334455667788;
  ack.echo_delay = 12345;
  ack.echo_flushed_end = Lsn{0x6001};
  ack.echo_confirmed_end = Lsn{0x6000};
  ack.policy_version = 7;
  for (ack.missing_count = 0; ack.missing_count < kMissingMax; ++ack.missing_count)
    ack.missing[ack.missing_count] = {Lsn{0x6000 + 0x100 * ack.missing_count}, Lsn{0x6080 + 0x100 * ack.missing_count}};
  ack.standby_ready = true;
  ack.log_only = true;
  ack.restart_point = Lsn{0x1000};
  ack.standby_xmin = 0x0000000100000002;
  ack.standby_catalog_xmin = 0x0000000100000003;
  return ack;
}

DigestReply digests() {
  DigestReply reply;
  for (std::uint64_t i = 0; i < kDigestsMax; ++i)
    reply.digests.push_back({{Lsn{i * kDigestBlock + (i == 0 ? 5 : 0)}, Lsn{(i + 1) * kDigestBlock}}, {i, ~i}});
  return reply;
}

PolicyUpdate policy() {
  PolicyUpdate update{9, "ANY 1 (left, right) AND FIRST 1 (far)", {}};
  update.members = {{"left", NodeId{2}, {{1, 2}}}, {"right", NodeId{3}, {{3, 4}}}, {"far", NodeId{4}, {{5, 6}}}};
  return update;
}

const std::array<std::byte, 100>& payload() {
  static const auto bytes = [] {
    std::array<std::byte, 100> out;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i);
    return out;
  }();
  return bytes;
}

}  // namespace

std::vector<Sample> samples() {
  std::vector<Sample> all;
  const auto add = [&](const char* name, FrameKind kind, Body body) {
    all.push_back({name, header(kind), std::move(body)});
  };
  add("data", FrameKind::kData, Data{{{Lsn{0x1fff00}, Lsn{0x200000}}, 0x9192939495969798}, payload()});
  all.back().header.position = Lsn{0x1fff10};
  add("ack", FrameKind::kAck, full_ack());
  Ack plain;
  plain.received_end = plain.durable_end = Lsn{0x10};
  plain.window_end = Lsn{0x20};
  add("ack_plain", FrameKind::kAck, plain);
  add("probe", FrameKind::kProbe, Probe{Lsn{0xa1a2a3a4a5a6a7a8}, true});
  add("hello", FrameKind::kHello,
      Hello{{{11, 12}}, "primary", 1, 3, 150020, ByteCount{16u << 20}, Lsn{0x7172737475767778}, 9});
  add("welcome", FrameKind::kWelcome,
      Welcome{{{21, 22}},
              "left",
              {3, 4},
              Lsn{0x2000},
              Lsn{0x1000},
              Lsn{0x4000},
              Lsn{0x3000},
              Lsn{0x2500},
              Lsn{0x400000},
              8,
              true,
              false});
  add("refuse", FrameKind::kRefuse,
      Refuse{RefuseReason::kFenced, {5, 0}, {{31, 32}}, "left has promised term 5 to right"});
  add("digest_request", FrameKind::kDigestRequest, DigestRequest{{Lsn{0x10005}, Lsn{0x200000}}});
  add("digest_reply", FrameKind::kDigestReply, digests());
  add("adopt", FrameKind::kAdopt, Adopt{Lsn{0x4000}});
  add("history", FrameKind::kHistory, History{TimelineId{2}, 41, 0, "1\t0/1900000\tno recovery target specified\n"});
  add("policy", FrameKind::kPolicy, policy());
  PolicyUpdate marked = policy();
  marked.not_held = {{Lsn{0x3000}, Lsn{0x4000}}, {Lsn{0x5000}, Lsn{UINT64_MAX}}};
  add("policy_not_held", FrameKind::kPolicy, marked);
  add("bye", FrameKind::kBye, Bye{"shutting down"});
  seal::NoiseMessage message;
  for (std::size_t i = 0; i < message.size(); ++i) message[i] = static_cast<std::byte>(i);
  seal::PublicKey ephemeral;
  std::copy_n(message.begin(), ephemeral.size(), ephemeral.begin());
  seal::Cookie cookie, mac;
  cookie.fill(std::byte{0xc0}), mac.fill(std::byte{0xaa});
  add("key_request", FrameKind::kKeyRequest, seal::KeyRequest{ephemeral, mac});
  add("key_cookie", FrameKind::kKeyCookie, seal::KeyCookie{ephemeral, cookie, mac});
  add("key_open", FrameKind::kKeyOpen, seal::KeyOpen{cookie, message});
  add("key_reply", FrameKind::kKeyReply, seal::KeyReply{message});
  add("group_key", FrameKind::kGroupKey, GroupKey{{0x12345678, seal::Secret(std::span(message).first<32>())}});
  add("group_key_held", FrameKind::kGroupKeyHeld, GroupKeyHeld{0x12345678});
  add("path_probe", FrameKind::kPathProbe, PathProbe{0xb1b2b3b4, 200});
  add("path_reply", FrameKind::kPathReply, PathReply{0xb1b2b3b4, 8972});
  add("cut", FrameKind::kCut, Cut{Lsn{0x3ff8}, Lsn{0x4000}});
  all.back().header.flags = kMustUnderstand;
  return all;
}

Sample sample(const std::string& name) {
  const auto all = samples();
  return *std::ranges::find(all, name, &Sample::name);
}

Bytes encoded(const Sample& sample) {
  Bytes out(kControlBytesMax);
  if (const auto* data = std::get_if<Data>(&sample.body)) {
    out.resize(encode_data_head(sample.header, data->batch, data->payload.size(), out));
    out.insert(out.end(), data->payload.begin(), data->payload.end());
  } else if (const auto* probe = std::get_if<PathProbe>(&sample.body)) {
    encode_path_probe_head(sample.header, *probe, out);
    out.resize(probe->frame_bytes);
  } else {
    out.resize(encode(sample.header, sample.body, out));
  }
  return out;
}

Bytes number(std::uint64_t value, std::size_t bytes) {
  Bytes out;
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(i < 8 ? value >> (8 * i) : 0));
  return out;
}

Bytes joined(const std::vector<Bytes>& parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes with(Bytes frame, std::size_t at, const Bytes& bytes) {
  std::ranges::copy(bytes, frame.begin() + static_cast<std::ptrdiff_t>(at));
  renew_tag(frame);
  return frame;
}

Bytes with_number(Bytes frame, std::size_t at, std::uint64_t value, std::size_t bytes) {
  return with(std::move(frame), at, number(value, bytes));
}

Bytes with_body(Bytes frame, const Bytes& body) {
  frame.resize(kHeaderBytes);
  frame.insert(frame.end(), body.begin(), body.end());
  return with_number(std::move(frame), 60, body.size(), 4);
}

Bytes body_of(const Bytes& frame) { return Bytes(frame.begin() + kHeaderBytes, frame.end()); }

Verdict verdict_of(std::span<const std::byte> frame) {
  Frame out;
  return decode(frame, out);
}

}  // namespace slipstream::protocol
