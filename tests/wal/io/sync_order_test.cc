#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/wal/io/world.h"
#include "wal/io/files.h"

// What a power cut would leave cannot be seen on a running system; in which order the kernel was asked can.
namespace {

std::vector<std::string> calls;  // "sync NAME" and "rename NAME", while `listening`: other tests have threads.
bool listening = false;

std::string name_of(int fd) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).filename().string();
}

struct Listening {
  Listening() { calls.clear(), listening = true; }
  ~Listening() { listening = false; }
};

}  // namespace

// In place of the C library's.
extern "C" int fsync(int fd) {
  if (listening) calls.push_back("sync " + name_of(fd));
  return static_cast<int>(syscall(SYS_fsync, fd));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  if (listening) calls.push_back("rename " + std::filesystem::path(from).filename().string());
  return static_cast<int>(syscall(SYS_rename, from, to));
}

namespace slipstream::wal::io {
namespace {

TEST(SyncOrder, OfAFileThatIsReplacedIsItsContentThenItsNameThenTheDirectory) {
  const TemporaryDirectory directory;
  const Listening here;
  ASSERT_TRUE(durable_replace(directory.path() / "state", std::vector<std::byte>(100)));
  EXPECT_EQ(calls, (std::vector<std::string>{"sync state.new", "rename state.new",
                                             "sync " + directory.path().filename().string()}));
}

// A process may have been killed between the rename and the sync behind it: what is read is relied upon.
TEST(SyncOrder, OfAFileThatIsReadDurablyIsTheDirectoryToo) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(durable_replace(directory.path() / "state", std::vector<std::byte>(100)));
  const Listening here;
  ASSERT_TRUE(read_durable(directory.path() / "state"));
  EXPECT_EQ(calls, (std::vector<std::string>{"sync " + directory.path().filename().string()}));
}

}  // namespace
}  // namespace slipstream::wal::io
