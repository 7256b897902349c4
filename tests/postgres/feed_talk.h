#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "postgres/feed_session.h"

namespace slipstream::postgres {

using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::uint64_t kSegment = 1 << 20;

// A log whose byte at position p is a function of p; the segments in `missing` are gone.
class MadeUpLog : public FeedSource {
 public:
  Lsn log_begin() const override { return begin; }
  const wal::SegmentLayout& layout() const override { return layout_; }
  const wal::TimelineHistory* history(TimelineId timeline) override {
    if (timeline.value == 1) return &first_;
    if (timeline.value != 2) return nullptr;
    return &second_;
  }
  std::optional<std::string> history_file(TimelineId timeline) override {
    return timeline.value == 2 ? std::optional<std::string>("1\t0/300100\twhy\n") : std::nullopt;
  }
  FeedRead read(const wal::TimelineHistory&, Lsn at, std::span<std::byte> out) override {
    EXPECT_EQ(layout_.number_of(at), layout_.number_of(Lsn{at.value + out.size() - 1})) << "a read crosses segments";
    if (missing == layout_.number_of(at)) return FeedRead::kMissing;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = byte_at(at.value + i);
    return broken ? FeedRead::kFailed : FeedRead::kOk;
  }
  static std::byte byte_at(std::uint64_t at) { return static_cast<std::byte>((at * 2654435761u) >> 13); }

  Lsn begin{0x100000};
  std::uint64_t missing = UINT64_MAX;
  bool broken = false;

 private:
  wal::SegmentLayout layout_{ByteCount{kSegment}};
  wal::TimelineHistory first_{TimelineId{1}};
  wal::TimelineHistory second_ = *wal::TimelineHistory::parse(TimelineId{2}, "1\t0/300100\twhy\n");
};

// One client against one session, time moved by hand.
class Talk : public testing::Test {
 protected:
  Talk() {
    context.system = SystemId{7777};
    context.server_version_num = 150020;
    context.receive_timeout = seconds(60);
    context.source = &log;
    context.wall_us = [] { return 42; };
    release.timeline = TimelineId{1};
    open();
  }
  void open(std::optional<FeedError> refusal = {}) {
    session.emplace(context, 1, std::move(refusal), now);
    received.clear();
  }
  void send(std::string_view bytes) {
    session->on_bytes(std::as_bytes(std::span(bytes)), release, now), session->advance(release, now);
  }
  static std::string big(std::uint64_t value, int bytes) {
    std::string out;
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
    return out;
  }
  void message(char tag, std::string_view body) { send(tag + big(body.size() + 4, 4) + std::string(body)); }
  void query(std::string_view text) { message('Q', std::string(text) + '\0'); }
  void start_up(std::string_view name = "walreceiver") {
    send_startup(196608, "user\0me\0replication\0true\0application_name\0"sv, std::string(name) + "\0\0"s);
    drain();
    received.clear();
  }
  void send_startup(std::uint32_t code, std::string_view rest, std::string_view more = "") {
    send(big(rest.size() + more.size() + 8, 4) + big(code, 4) + std::string(rest) + std::string(more));
  }
  void reply(Lsn write, Lsn flush, Lsn apply, bool ask = false) {
    message('d',
            "r" + big(write.value, 8) + big(flush.value, 8) + big(apply.value, 8) + big(0, 8) + big(ask ? 1 : 0, 1));
  }

  struct Message {
    char tag;
    std::string body;
  };
  // Takes all there is to take.
  void drain() {
    for (int i = 0; i < 10'000; ++i) {
      session->advance(release, now);
      const auto out = session->output();
      if (out.empty()) break;
      raw.append(reinterpret_cast<const char*>(out.data()), out.size());
      session->on_written(out.size());
    }
    while (raw.size() >= 5) {
      const std::size_t length = ByteReader(std::as_bytes(std::span(raw)).subspan(1)).be<std::uint32_t>();
      if (raw.size() < 1 + length) break;
      received.push_back({raw[0], raw.substr(5, length - 4)});
      raw.erase(0, 1 + length);
    }
  }
  std::string tags() {
    drain();
    std::string out;
    for (const Message& each : received) out += each.tag;
    return out;
  }
  // "code message" of the only error.
  std::string error() {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'E') continue;
      std::map<char, std::string> fields;
      for (std::size_t at = 0; at < each.body.size() && each.body[at] != '\0'; at += 2 + fields[each.body[at]].size())
        fields[each.body[at]] = each.body.substr(at + 1).c_str();
      return fields['S'] + " " + fields['C'] + " " + fields['M'];
    }
    return "";
  }
  std::vector<std::string> row() {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'D') continue;
      ByteReader in(std::as_bytes(std::span(each.body)));
      std::vector<std::string> out(in.be<std::uint16_t>());
      for (std::string& value : out) {
        const auto length = in.be<std::uint32_t>();
        value = length == 0xffffffff ? "NULL" : std::string(in.text(length));
      }
      return out;
    }
    return {};
  }
  // The WAL and the keepalives received, checked byte for byte.
  Lsn wal_from(Lsn from) {
    drain();
    for (const Message& each : received) {
      if (each.tag != 'd' || each.body[0] != 'w') continue;
      const auto data = decode_xlog_data(std::as_bytes(std::span(each.body)));
      if (!data) {
        ADD_FAILURE() << "not WAL data";
        return from;
      }
      EXPECT_EQ(data->start, from);
      EXPECT_LE(data->payload.size(), 128u * 1024);
      for (std::size_t i = 0; i < data->payload.size(); ++i)
        if (data->payload[i] != MadeUpLog::byte_at(from.value + i)) {
          ADD_FAILURE() << "another byte at " << from.value + i;
          return from;
        }
      from = from + ByteCount{data->payload.size()};
      EXPECT_GE(data->wal_end, from);
      ends.push_back(from);
    }
    return from;
  }
  std::size_t asks() {
    drain();
    std::size_t count = 0;
    for (const Message& each : received)
      if (each.tag == 'd' && each.body[0] == 'k' && each.body.back() == 1) ++count;
    received.clear();
    return count;
  }

  MadeUpLog log;
  FeedContext context;
  node::Release release{};
  Instant now = Instant{1'000'000'000'000};
  std::optional<FeedSession> session;
  std::string raw;
  std::vector<Message> received;
  std::vector<Lsn> ends;
};

}  // namespace slipstream::postgres
