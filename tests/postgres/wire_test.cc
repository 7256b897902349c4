#include "postgres/wire.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "postgres/feed_messages.h"

namespace slipstream::postgres {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

TEST(Wire, EncodesAStandbysStatusAsPostgresqlReadsIt) {
  const auto message = encode(StandbyStatus{Lsn{1}, Lsn{2}, Lsn{3}, 4, true});
  ASSERT_EQ(message.size(), 34u);
  const auto decoded = decode_standby_status(message);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->write, Lsn{1});
  EXPECT_EQ(decoded->flush, Lsn{2});
  EXPECT_EQ(decoded->apply, Lsn{3});
  EXPECT_TRUE(decoded->reply_requested);
  EXPECT_EQ(message[8], std::byte{1}) << "big-endian";
}

TEST(Wire, ReadsWhatAWalsenderWrites) {
  BackendMessages out;
  const auto payload = out.xlog_data(Lsn{0x1000}, Lsn{0x2000}, 77, 3);
  std::fill(payload.begin(), payload.end(), std::byte{9});
  const auto data = decode_xlog_data(out.pending().subspan(5));
  ASSERT_TRUE(data);
  EXPECT_EQ(data->start, Lsn{0x1000});
  EXPECT_EQ(data->wal_end, Lsn{0x2000});
  EXPECT_EQ(data->time_us, 77);
  EXPECT_EQ(std::vector(data->payload.begin(), data->payload.end()), bytes_of({9, 9, 9}));
  out.take(out.pending().size());
  out.keepalive(Lsn{0x3000}, 78, true);
  const auto keepalive = decode_keepalive(out.pending().subspan(5));
  ASSERT_TRUE(keepalive);
  EXPECT_EQ(keepalive->wal_end, Lsn{0x3000});
  EXPECT_TRUE(keepalive->reply_requested);
}

TEST(Wire, RefusesTruncatedAndForeignMessages) {
  const auto message = encode(StandbyStatus{});
  for (std::size_t length = 0; length < message.size(); ++length)
    EXPECT_FALSE(decode_standby_status(std::span(message).first(length))) << length;
  EXPECT_FALSE(decode_keepalive(message));
  EXPECT_FALSE(decode_xlog_data(bytes_of({'w', 0, 0})));
  std::vector<std::byte> wraps(26, std::byte{0xff});
  wraps[0] = std::byte{'w'};
  EXPECT_FALSE(decode_xlog_data(wraps)) << "a start that wraps with its payload";
}

}  // namespace
}  // namespace slipstream::postgres
