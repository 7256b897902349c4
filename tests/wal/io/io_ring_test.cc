#include "wal/io/io_ring.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <thread>

#include "tests/wal/io/world.h"

namespace slipstream::wal::io {
namespace {

std::vector<IoRing::Completion> reap_all(IoRing& ring, std::size_t count) {
  std::vector<IoRing::Completion> all;
  for (int turn = 0; turn < 100'000 && all.size() < count; ++turn) {
    std::array<IoRing::Completion, 4> some;
    const std::size_t reaped = ring.reap(some);
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(reaped));
    if (reaped == 0) usleep(50);
  }
  EXPECT_EQ(all.size(), count);
  std::ranges::sort(all, {}, &IoRing::Completion::user);
  return all;
}

class Ring : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { fd_ = ::open((directory_.path() / "file").c_str(), O_RDWR | O_CREAT, 0600); }
  void TearDown() override { ::close(fd_); }
  TemporaryDirectory directory_;
  Memory memory_{64 * 4096};
  int fd_ = -1;
};

INSTANTIATE_TEST_SUITE_P(, Ring, testing::Bool(), [](const auto& each) { return each.param ? "Blocking" : "Uring"; });

TEST_P(Ring, WritesAndReadsBackWithRegisteredMemoryAndFiles) {
  IoRing ring(32, GetParam());
  const std::span<std::byte> registered = memory_.span().first(32 * 4096), other = memory_.span().subspan(32 * 4096);
  ring.register_memory(std::span(&registered, 1));
  ring.add_file(fd_);
  fill(registered.first(16 * 4096), Lsn{0});
  for (std::size_t i = 0; i < 16; ++i)
    ASSERT_TRUE(ring.write(fd_, registered.subspan(i * 4096, 4096), i * 4096, i % 2 == 0, i));
  for (const auto& done : reap_all(ring, 16)) EXPECT_EQ(done.result, 4096) << done.user;
  ASSERT_TRUE(ring.read(fd_, registered.subspan(16 * 4096, 8 * 4096), 0, 1));
  ASSERT_TRUE(ring.read(fd_, other.first(8 * 4096), 8 * 4096, 2));
  for (const auto& done : reap_all(ring, 2)) EXPECT_EQ(done.result, 8 * 4096) << done.user;
  EXPECT_TRUE(holds(registered.subspan(16 * 4096, 8 * 4096), Lsn{0}));
  EXPECT_TRUE(holds(other.first(8 * 4096), Lsn{8 * 4096}));
  ring.remove_file(fd_);
  EXPECT_EQ(ring.under_way(), 0u);
}

TEST_P(Ring, ReportsAWriteThatASyncFollowsOnceWithItsBytes) {
  IoRing ring(8, GetParam());
  fill(memory_.span(), Lsn{0});
  for (std::size_t i = 0; i < 4; ++i)
    ASSERT_TRUE(ring.write_then_sync(fd_, memory_.span().subspan(i * 4096, 4096), i * 4096, 10 + i));
  const auto done = reap_all(ring, 4);
  for (std::size_t i = 0; i < done.size(); ++i) EXPECT_TRUE(done[i].user == 10 + i && done[i].result == 4096);
  EXPECT_EQ(ring.under_way(), 0u);
  EXPECT_TRUE(holds(content_of(directory_.path() / "file"), Lsn{0}));
}

TEST_P(Ring, GivesAnErrorOfTheFileAsItsNegativeNumber) {
  IoRing ring(8, GetParam());
  const int read_only = ::open((directory_.path() / "file").c_str(), O_RDONLY);
  ASSERT_TRUE(ring.write(read_only, memory_.span().first(4096), 0, true, 1));
  ASSERT_TRUE(ring.write_then_sync(read_only, memory_.span().first(4096), 0, 2));
  ASSERT_TRUE(ring.read(fd_, memory_.span(), 1 << 20, 3));
  const auto done = reap_all(ring, 3);
  EXPECT_EQ(done[0].result, -EBADF);
  EXPECT_EQ(done[1].result, -EBADF);
  EXPECT_EQ(done[2].result, 0);
  ::close(read_only);
}

TEST(IoRing, TakesNoMoreOperationsThanItHasRoomFor) {
  TemporaryDirectory directory;
  make_file(directory.path() / "file", std::string(4096, 'x'));
  const int fd = ::open((directory.path() / "file").c_str(), O_RDONLY);
  Memory memory(4096);
  IoRing ring(4);
  if (ring.blocking()) GTEST_SKIP() << ring.note();
  std::uint64_t taken = 0;
  while (taken < 100 && ring.read(fd, memory.span(), 0, taken)) ++taken;
  EXPECT_EQ(taken, 4u);
  EXPECT_EQ(reap_all(ring, 4).size(), 4u);
  EXPECT_TRUE(ring.read(fd, memory.span(), 0, 4));
  reap_all(ring, 1);
  ::close(fd);
}

bool is_readable(int fd) {
  pollfd each{fd, POLLIN, 0};
  return ::poll(&each, 1, 0) == 1;
}

// What a sleep relies on: between tell(false) and tell(true) nothing is told, and nothing is missed.
TEST_P(Ring, TellsOfWhatEndsOnlyWhenAskedToAndMissesNothing) {
  IoRing ring(32, GetParam());
  EXPECT_TRUE(ring.tell(false));
  ASSERT_TRUE(ring.write(fd_, memory_.span().first(4096), 0, true, 1));
  ring.submit();
  for (int turn = 0; turn < 10'000 && ring.tell(true); ++turn) {
    ring.tell(false);
    usleep(100);
  }
  EXPECT_FALSE(ring.tell(true));  // It has ended.
  ring.tell(false);
  reap_all(ring, 1);
  EXPECT_TRUE(ring.tell(true));
  if (ring.event_fd() < 0) return;
  EXPECT_FALSE(is_readable(ring.event_fd()));
  ASSERT_TRUE(ring.write(fd_, memory_.span().first(4096), 0, true, 2));
  ring.submit();
  for (int turn = 0; turn < 10'000 && !is_readable(ring.event_fd()); ++turn) usleep(100);
  EXPECT_TRUE(is_readable(ring.event_fd()));
  reap_all(ring, 1);
}

TEST(IoRing, BelongsToTheThreadThatUsesItNotToTheOneThatMadeIt) {
  TemporaryDirectory directory;
  make_file(directory.path() / "file", std::string(4096, 'x'));
  const int fd = ::open((directory.path() / "file").c_str(), O_RDONLY);
  Memory memory(4096);
  auto ring = std::make_unique<IoRing>(8);
  const auto region = memory.span();
  ring->register_memory(std::span(&region, 1));
  std::thread([&] {
    ASSERT_TRUE(ring->read(fd, memory.span(), 0, 1));
    EXPECT_EQ(reap_all(*ring, 1).front().result, 4096);
    ASSERT_TRUE(ring->read(fd, memory.span(), 0, 2));  // Left behind.
  }).join();
  ring.reset();
  ::close(fd);
}

TEST(IoRing, FallsBackAndSaysSoWhereAContainerBlocksIt) {
  TemporaryDirectory directory;
  make_file(directory.path() / "file", std::string(4096, 'x'));
  const pid_t child = fork();
  if (child == 0) {
    sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const sock_fprog program{4, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      _exit(77);
    IoRing ring;
    const bool said = ring.blocking() && ring.problem() &&
                      ring.problem()->what.find("Operation not permitted") != std::string::npos &&
                      !ring.problem()->remedy.empty();
    Memory memory(4096);
    const int fd = ::open((directory.path() / "file").c_str(), O_RDONLY);
    IoRing::Completion done;
    const bool works = ring.read(fd, memory.span(), 0, 7) && ring.reap(std::span(&done, 1)) == 1 && done.user == 7 &&
                       done.result == 4096;
    _exit(said && works ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "seccomp filters are not allowed here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace slipstream::wal::io
