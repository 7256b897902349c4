#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "wal/io/io_ring.h"
#include "wal/io/segment_reader.h"
#include "wal/io/segment_writer.h"

// What the tests of wal/io share: directories on a real file system, patterns to recognise, and the data thread's turn.
namespace slipstream::wal::io {

inline constexpr ByteCount kMiB{1u << 20};

// A fresh directory on a real file system (/tmp may be a tmpfs), removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = "/var/tmp/slipstream-wal-io-XXXXXX";
    if (!mkdtemp(name.data())) std::abort();
    path_ = name;
    std::filesystem::permissions(path_, std::filesystem::perms{0755});
  }
  ~TemporaryDirectory() {
    std::error_code ignored;  // Tests take permissions away; without them the owner cannot remove what is inside.
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
    for (const auto& entry : std::filesystem::directory_iterator(path_, ignored))
      if (entry.is_directory(ignored))
        std::filesystem::permissions(entry.path(), std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Page-aligned zeros.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : at_(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)), &std::free), bytes_(bytes) {
    std::memset(at_.get(), 0, bytes);
  }
  std::span<std::byte> span() { return {at_.get(), bytes_}; }

 private:
  std::unique_ptr<std::byte, decltype(&std::free)> at_;
  std::size_t bytes_;
};

// The byte that belongs at a position; `salt` tells one history from another. Never zero.
inline std::byte byte_at(std::uint64_t at, unsigned salt = 0) {
  return static_cast<std::byte>(1 + (at * 2654435761u / 4096 + at + salt * 97) % 255);
}

inline void fill(std::span<std::byte> out, Lsn at, unsigned salt = 0) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = byte_at(at.value + i, salt);
}

inline bool holds(std::span<const std::byte> bytes, Lsn at, unsigned salt = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != byte_at(at.value + i, salt)) return false;
  return true;
}

inline bool is_zero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

inline std::vector<std::byte> content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline void make_file(const std::filesystem::path& path, std::span<const std::byte> content) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
}

inline void make_file(const std::filesystem::path& path, std::string_view content) {
  make_file(path, std::as_bytes(std::span(content)));
}

// A whole segment file holding the pattern of its positions.
inline void make_segment(const std::filesystem::path& directory, SegmentLayout layout, std::uint64_t number,
                         TimelineId timeline = {1}, unsigned salt = 0) {
  std::vector<std::byte> content(layout.segment_size().value);
  fill(content, layout.begin_of(number), salt);
  make_file(directory / layout.file_name(timeline, number), content);
}

inline std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

// Another user while it lives, so that permissions count. Only root can.
class AsNobody {
 public:
  AsNobody() : was_root_(geteuid() == 0 && seteuid(65534) == 0) {}
  ~AsNobody() {
    if (was_root_ && seteuid(0) != 0) std::abort();
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  bool was_root_;
};

// Takes the data thread's turns until `count` operations have ended; what ended, by id. Gives up after a while.
inline std::map<std::uint32_t, IoStatus> run(IoRing& ring, SegmentReader* reader, SegmentWriter* writer,
                                             std::size_t count) {
  std::map<std::uint32_t, IoStatus> ended;
  const auto add = [&](std::optional<IoDone> done) {
    if (!done) return false;
    EXPECT_TRUE(ended.emplace(done->id, done->status).second) << "operation " << done->id << " ended twice";
    return true;
  };
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (ended.size() < count && std::chrono::steady_clock::now() < give_up) {
    if (writer) writer->go_on();
    while (reader && add(reader->next_failed())) continue;
    while (writer && add(writer->next_failed())) continue;
    std::array<IoRing::Completion, 16> completions;
    const std::size_t reaped = ring.reap(completions);
    for (const auto& each : std::span(completions).first(reaped))
      add((each.user & SegmentReader::kUserMark) != 0 ? reader->on_completion(each) : writer->on_completion(each));
    if (reaped == 0) usleep(100);
  }
  EXPECT_EQ(ended.size(), count) << "operations did not end";
  return ended;
}

}  // namespace slipstream::wal::io
