#include <algorithm>
#include <chrono>
#include <climits>
#include <deque>

#include "node/primary_node.h"
#include "tests/node/world.h"
#include "tests/postgres/proxy.h"
#include "tests/postgres/upstream_watch.h"
#include "wal/io/file_segment_source.h"

// The upstream, a primary's node over a real pg_wal, and a replica in memory; PostgreSQL's stream comes through a proxy
// that may spoil it.
namespace slipstream::postgres {
namespace {

using namespace real;
using namespace std::chrono_literals;

// Reads pg_wal as it is when asked; what is to be kept is kept.
class WalDirectory : public node::Disk {
 public:
  WalDirectory(const std::filesystem::path& wal, ByteCount segment_size)
      : files_(wal, wal::SegmentLayout(segment_size)) {}
  bool submit_read(const node::ReadOp& op) override {
    const bool whole = files_.read(op.range.begin, op.into) == op.into.size();
    done_.push_back({op.id, whole ? node::DiskStatus::kOk : node::DiskStatus::kMissing});
    return true;
  }
  bool submit_write(const node::WriteOp&) override { return false; }
  bool submit_persist(node::PersistOp&& op) override { return done_.push_back({op.id, node::DiskStatus::kOk}), true; }
  bool submit_history(node::KeepHistoryOp&& op) override {
    return done_.push_back({op.id, node::DiskStatus::kOk}), true;
  }
  std::size_t complete(std::span<node::DiskDone> done) override {
    const std::size_t count = std::min(done.size(), done_.size());
    std::copy_n(done_.begin(), count, done.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }

 private:
  wal::io::FileSegmentSource files_;
  std::deque<node::DiskDone> done_;
};

class UpstreamAndNode : public testing::Test {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << kMissing;
    give_to_database_user(place.path());
    server.initialise();
    server.start();
    server.sql("CREATE TABLE public.t (i int)");
    server.set("synchronous_standby_names", "slipstream");
    proxy = std::make_unique<Proxy>(place.path(), 7411, place / ".s.PGSQL.7410");
    begin = align_down(server.flushed(), node::kSegmentSize.value);
    shipped_wal = std::make_unique<wal::io::FileSegmentSource>(server.wal(), wal::SegmentLayout(node::kSegmentSize));
    disk = std::make_unique<WalDirectory>(server.wal(), node::kSegmentSize);
    network.seen = [this](NodeId, NodeId, const protocol::Frame& frame) { look_at(frame); };
    const ack::Member member{NodeId{2}, "b1"};
    replica = std::make_unique<node::ReplicaHost>(network, member, true, now());
    replica->stop();
    auto state = node::first_replica_state(member, true);
    state.system = SystemId{std::stoull(server.sql("SELECT system_identifier FROM pg_control_system()"))};
    state.log_begin = state.scan_begin = begin;
    replica->disk = node::FakeDisk(begin);
    replica->disk.state = encode(state);
    replica->start(now());
    node::PrimaryOptions options;
    options.id = node::kPrimaryId, options.name = "a", options.replicas = {member}, options.policy = "b1";
    primary =
        std::make_unique<node::PrimaryNode>(options, node::first_primary_state(node::kIdentity), ring, catch_up, now());
    UpstreamOptions through_proxy{
        "user=postgres dbname=postgres port=7411 host=" + place.path().string(), "slipstream", "slipstream", {}, [] {}};
    through_proxy.on_data_thread = true;
    upstream = std::make_unique<PostgresUpstream>(std::move(through_proxy));
  }
  static Instant now() { return {std::chrono::steady_clock::now().time_since_epoch().count()}; }

  // What is shipped is compared with the files as they are then.
  void look_at(const protocol::Frame& frame) {
    const auto* data = std::get_if<protocol::Data>(&frame.body);
    if (!data) return;
    std::vector<std::byte> held(data->payload.size());
    EXPECT_EQ(shipped_wal->read(frame.header.position, held), held.size());
    EXPECT_TRUE(std::ranges::equal(held, data->payload)) << "shipped at " << to_string(frame.header.position);
    shipped_bytes += held.size();
  }
  bool turn() {
    bool worked = step(*primary, port, *disk, *upstream, now());
    worked |= replica->step_once(now());
    const Lsn confirmed = view().confirmed_end;
    EXPECT_LE(primary->report().flush, confirmed);
    return worked;
  }
  bool until(const std::function<bool()>& done, std::chrono::seconds limit = 20s) {
    for (const auto end = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < end;) {
      if (!turn()) std::this_thread::sleep_for(200us);
      if (done()) return true;
    }
    return false;
  }
  node::PrimaryView view() const { return primary->snapshot(now()).primary; }
  bool streaming() const { return view().replicas[0].state == "streaming" && view().replicas[0].counts; }
  bool commits() {
    Commit commit(server, "on");
    return until([&] { return commit.returned_within(0ms); }) && commit.outcome() == "returned";
  }

  feed_test::Place place;
  Server server{place / "primary", 7410};
  std::unique_ptr<Proxy> proxy;
  Lsn begin;
  std::unique_ptr<wal::io::FileSegmentSource> shipped_wal;
  std::unique_ptr<WalDirectory> disk;
  node::Network network;
  node::FakePort port{network, node::kPrimaryId};
  std::unique_ptr<node::ReplicaHost> replica;
  std::vector<std::byte> ring = std::vector<std::byte>(node::kRingBytes), catch_up = std::vector<std::byte>(4u << 20);
  std::unique_ptr<node::PrimaryNode> primary;
  std::unique_ptr<PostgresUpstream> upstream;
  std::size_t shipped_bytes = 0;
};

TEST_F(UpstreamAndNode, ACommitReturnsWhenTheReplicaHoldsIt) {
  ASSERT_TRUE(until([&] { return streaming(); })) << view().state << " " << view().reason;
  ASSERT_TRUE(commits());
  EXPECT_GE(view().replicas[0].ends[ack::Level::kDurable], begin + ByteCount{1});
  EXPECT_GT(shipped_bytes, 0u);
  EXPECT_EQ(proxy->streams, 1);
}

TEST_F(UpstreamAndNode, AStreamThatDiffersOnceIsReadAnewAndNothingIsLost) {
  ASSERT_TRUE(until([&] { return streaming(); }));
  ASSERT_TRUE(commits());
  proxy->spoil = 1;
  Commit commit(server, "on");
  // Until the connection is made anew, nothing at or past the difference is confirmed.
  ASSERT_TRUE(until([&] {
    const Lsn spoiled = proxy->spoiled_at(), confirmed = view().confirmed_end;
    if (proxy->streams == 1) {
      EXPECT_LE(confirmed, spoiled);
    }
    return proxy->streams == 2;
  }));
  EXPECT_TRUE(until([&] { return commit.returned_within(0ms); }));
  EXPECT_EQ(view().state, "running");
  EXPECT_EQ(view().epoch.incarnation, 2u);
  const Lsn end = server.flushed();
  ASSERT_TRUE(until([&] { return view().replicas[0].ends[ack::Level::kDurable] >= end; }));
  std::vector<std::byte> files((end - begin).value);
  ASSERT_EQ(shipped_wal->read(begin, files), files.size());
  EXPECT_TRUE(std::equal(files.begin(), files.end(), replica->disk.bytes.begin()));
}

TEST_F(UpstreamAndNode, AStreamThatKeepsDifferingEndsInTheStateMismatchAndConfirmsNothing) {
  ASSERT_TRUE(until([&] { return streaming(); }));
  ASSERT_TRUE(commits());
  proxy->spoil = INT_MAX;
  Commit commit(server, "on");
  ASSERT_TRUE(until([&] { return view().state == "mismatch"; })) << view().state;
  EXPECT_EQ(proxy->streams, 3);
  EXPECT_NE(view().reason.find("PostgreSQL's stream and the files in pg_wal differ behind " +
                               to_string(view().confirmed_end)),
            std::string::npos)
      << view().reason;
  (void)until([] { return false; }, 1s);
  EXPECT_EQ(view().confirmed_end, proxy->spoiled_at());
  EXPECT_LT(view().confirmed_end, server.flushed());
  EXPECT_FALSE(commit.returned_within(0ms));
}

}  // namespace
}  // namespace slipstream::postgres
