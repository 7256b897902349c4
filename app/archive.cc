#include "app/archive.h"

#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>

#include <cstring>
#include <system_error>

#include "wal/io/files.h"
#include "wal/scanner.h"

extern char** environ;

namespace slipstream::app {
namespace {

constexpr auto kLook = std::chrono::milliseconds(5);

std::string substituted(const std::string& command, const std::string& name, const std::string& path) {
  std::string out;
  for (std::size_t i = 0; i < command.size(); ++i) {
    const char next = command[i] == '%' && i + 1 < command.size() ? command[i + 1] : '\0';
    if (next == 'f')
      out += name;
    else if (next == 'p')
      out += path;
    else
      out += command[i];
    if (next == 'f' || next == 'p' || next == '%') ++i;
  }
  return out;
}

// Why what came is not that segment; empty when it is.
std::string objection_to(const std::filesystem::path& file, const ArchiveOptions& options, std::uint64_t number) {
  std::error_code problem;
  if (!std::filesystem::exists(file, problem)) return "there is no such file";
  const auto bytes = wal::io::read_file(file);
  if (!bytes) return bytes.error().what;
  if (bytes->size() != options.layout.segment_size().value) return fmt::format("that has {} bytes", bytes->size());
  wal::Scanner scanner(options.layout, options.layout.begin_of(number), wal::Scanner::Start::kPage,
                       {options.system, {}});
  scanner.on_bytes(*bytes);
  if (scanner.fault() == wal::ScanFault::kNone) return "";
  return fmt::format("that is not valid there at {}: {}", to_string(scanner.scanned_end()),
                     wal::to_string(scanner.fault()));
}

}  // namespace

Archive::Archive(ArchiveOptions options) : options_(std::move(options)) {
  std::error_code ignored;
  std::filesystem::remove_all(options_.directory, ignored);
  std::filesystem::create_directories(options_.directory, ignored);
  std::filesystem::permissions(options_.directory, std::filesystem::perms::owner_all, ignored);
  thread_ = std::thread([this] { run(); });
}

Archive::~Archive() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wanted_.notify_all();
  thread_.join();
  std::error_code ignored;
  std::filesystem::remove_all(options_.directory, ignored);
}

Archive::Answer Archive::ask(TimelineId timeline, std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  const auto [found, fresh] = known_.try_emplace({timeline, number}, Known{Answer::kFetching, now});
  Known& known = found->second;
  if (!fresh && (known.answer != Answer::kNotThere || now - known.since < kAskAgain)) return known.answer;
  known = {Answer::kFetching, now};
  queue_.push_back({{timeline, number}, kAhead});
  wanted_.notify_all();
  return Answer::kFetching;
}

void Archive::run() {
  pthread_setname_np(pthread_self(), "archive");
  std::unique_lock lock(mutex_);
  while (true) {
    wanted_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    const auto [segment, ahead] = queue_.front();
    queue_.pop_front();
    lock.unlock();
    const bool there = fetch(segment);
    lock.lock();
    known_[segment] = {there ? Answer::kThere : Answer::kNotThere, std::chrono::steady_clock::now()};
    if (there) {
      there_.push_back(segment);
      keep_few();
      // The next one, while this one is read; not the one behind that and so on: what is not read yet would have to go.
      const Segment next{segment.timeline, segment.number + 1};
      if (ahead > 0 && queue_.empty() &&
          known_.try_emplace(next, Known{Answer::kFetching, std::chrono::steady_clock::now()}).second)
        queue_.push_back({next, ahead - 1});
    }
    lock.unlock();
    options_.wake();
    lock.lock();
  }
}

void Archive::keep_few() {
  for (; there_.size() > kFilesMax; there_.pop_front()) {
    std::error_code ignored;
    const Segment& oldest = there_.front();
    std::filesystem::remove(options_.directory / options_.layout.file_name(oldest.timeline, oldest.number), ignored);
    known_.erase(oldest);
  }
  // What was not there is forgotten some time: the map does not grow for ever.
  std::erase_if(known_, [now = std::chrono::steady_clock::now()](const auto& each) {
    return each.second.answer == Answer::kNotThere && now - each.second.since > 2 * kAskAgain;
  });
}

bool Archive::fetch(const Segment& segment) {
  const std::string name = options_.layout.file_name(segment.timeline, segment.number);
  const std::filesystem::path path = options_.directory / name, coming = options_.directory / (name + ".coming");
  std::error_code problem;
  std::filesystem::remove(coming, problem);
  const int status = run_command(substituted(options_.command, name, coming.string()));
  if (stopped()) return false;
  if (status != 0) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 125)
      spdlog::warn("primary.restore_command failed for {}: {}", name,
                   WIFEXITED(status) ? fmt::format("status {}", WEXITSTATUS(status))
                                     : fmt::format("signal {}", WTERMSIG(status)));
    return false;
  }
  if (const std::string wrong = objection_to(coming, options_, segment.number); !wrong.empty()) {
    spdlog::warn("primary.restore_command said that it brought {}, but {}", name, wrong);
    return false;
  }
  std::filesystem::rename(coming, path, problem);
  if (!problem) spdlog::info("{} came from the archive", name);
  return !problem;
}

bool Archive::stopped() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

// As system() does, but it can be ended, with all that it started. Its wait status; 127 << 8 when it cannot be started.
int Archive::run_command(const std::string& command) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  std::string text[] = {"/bin/sh", "-c", command};
  char* arguments[] = {text[0].data(), text[1].data(), text[2].data(), nullptr};
  pid_t child = 0;
  const int problem = posix_spawn(&child, arguments[0], nullptr, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  if (problem != 0) return 127 << 8;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    std::unique_lock lock(mutex_);
    if (!wanted_.wait_for(lock, kLook, [&] { return stop_; })) continue;
    ::kill(-child, SIGKILL);
    lock.unlock();
    waitpid(child, &status, 0);
    break;
  }
  return status;
}

}  // namespace slipstream::app
