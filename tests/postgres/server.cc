#include "tests/postgres/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "postgres/sql_session.h"
#include "tests/postgres/feed_place.h"

namespace slipstream::postgres::real {
namespace {

namespace fs = std::filesystem;

// Between fork and exec: becomes the other user, dies with us.
void become(const passwd* entry) {
  if (::geteuid() == 0 && entry &&
      (::setgroups(0, nullptr) != 0 || ::setgid(entry->pw_gid) != 0 || ::setuid(entry->pw_uid) != 0))
    ::_exit(126);
  ::prctl(PR_SET_PDEATHSIG, SIGQUIT);
  (void)!::chdir("/");
  ::setenv("LC_ALL", "C", 1);
}

[[noreturn]] void execute(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

}  // namespace

fs::path program(const std::string& name) {
  const char* directory = std::getenv("PG_BIN");
  return fs::path(directory ? directory : "/usr/lib/postgresql/15/bin") / name;
}

std::string database_user() { return ::geteuid() == 0 ? "postgres" : feed_test::own_user(); }
bool available() { return fs::exists(program("initdb")) && (::geteuid() != 0 || ::getpwnam("postgres")); }

Outcome run(const std::vector<std::string>& arguments, const std::string& user) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return {};
  const passwd* entry = ::getpwnam(user.c_str());
  const pid_t child = ::fork();
  if (child == 0) {
    become(entry);
    ::dup2(pipe_fds[1], 1);
    ::dup2(pipe_fds[1], 2);
    ::alarm(60);
    execute(arguments);
  }
  ::close(pipe_fds[1]);
  Outcome out;
  char bytes[4096];
  for (ssize_t got = ::read(pipe_fds[0], bytes, sizeof bytes); got > 0; got = ::read(pipe_fds[0], bytes, sizeof bytes))
    out.output.append(bytes, static_cast<std::size_t>(got));
  ::close(pipe_fds[0]);
  ::waitpid(child, &out.status, 0);
  out.status = WIFEXITED(out.status) ? WEXITSTATUS(out.status) : -1;
  return out;
}

void must(const std::vector<std::string>& arguments) {
  const Outcome outcome = run(arguments);
  if (outcome.status != 0)
    throw std::runtime_error(arguments[0] + " exited " + std::to_string(outcome.status) + ": " + outcome.output);
}

void give_to_database_user(const fs::path& path) {
  const passwd* entry = ::getpwnam(database_user().c_str());
  if (::geteuid() == 0 && (!entry || ::chown(path.c_str(), entry->pw_uid, entry->pw_gid) != 0))
    throw std::runtime_error("cannot give away " + path.string());
}

Server::~Server() {
  if (pid_ <= 0) return;
  resume();
  begin_stop(SIGQUIT);
  if (!stopped_within(std::chrono::seconds(20))) begin_stop(SIGKILL);
}

void Server::initialise() {
  must({program("initdb"), "-D", directory_, "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale",
        "--no-instructions", "--wal-segsize=1"});
  configure({{"listen_addresses", ""},
             {"unix_socket_directories", directory_.parent_path().string()},
             {"fsync", "off"},
             {"wal_keep_size", "1GB"},
             {"max_wal_size", "1GB"},
             {"max_slot_wal_keep_size", "1GB"},
             {"shared_buffers", "16MB"},
             {"wal_retrieve_retry_interval", "100ms"},
             {"autovacuum", "off"},
             {"max_wal_senders", "4"}});
}

void Server::configure(const Settings& settings) const {
  std::ofstream conf(directory_ / "postgresql.conf", std::ios::app);
  for (const auto& [name, value] : settings) conf << name << " = '" << value << "'\n";
}

void Server::set(const std::string& setting, const std::string& value) const {
  sql(fmt::format("ALTER SYSTEM SET {} = '{}'", setting, value));
  sql("SELECT pg_reload_conf()");
  if (!feed_test::eventually([&] { return sql("SHOW " + setting) == value; }))
    throw std::runtime_error(setting + " was not taken over");
}

void Server::copy_to(const fs::path& other) const { must({"/bin/cp", "-a", directory_, other}); }

void Server::start() {
  const passwd* entry = ::getpwnam(database_user().c_str());
  pid_ = ::fork();
  if (pid_ == 0) {
    become(entry);
    const int log = ::open((directory_ / "server.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(log, 1);
    ::dup2(log, 2);
    execute({program("postgres"), "-D", directory_, "-p", std::to_string(port_)});
  }
  const auto answers = [&] { return SqlSession::connect(conninfo(), "test").has_value(); };
  if (!feed_test::eventually([&] { return answers() || stopped_within(std::chrono::milliseconds(0)); }) || pid_ <= 0)
    throw std::runtime_error("the server did not start: " + log());
}

void Server::begin_stop(int signal) const { ::kill(pid_, signal); }

bool Server::stopped_within(std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  pid_ = -1;
  return true;
}

void Server::stop() {
  begin_stop(SIGINT);
  if (!stopped_within(std::chrono::seconds(20))) throw std::runtime_error("the server did not stop: " + log());
}

// The postmaster's children lead process groups of their own.
std::vector<pid_t> Server::processes() const {
  std::vector<pid_t> out{pid_};
  for (const auto& each : fs::directory_iterator("/proc")) {
    if (std::atoi(each.path().filename().c_str()) == 0) continue;
    std::ifstream in(each.path() / "stat");
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto after_name = text.rfind(')');
    if (after_name == std::string::npos || text.size() < after_name + 4) continue;
    if (std::atoi(text.c_str() + after_name + 4) == pid_) out.push_back(std::atoi(text.c_str()));
  }
  return out;
}

void Server::suspend() const {
  for (const pid_t each : processes()) ::kill(each, SIGSTOP);
}
void Server::resume() const {
  for (const pid_t each : processes()) ::kill(each, SIGCONT);
}

std::string Server::sql(const std::string& text) const {
  auto session = SqlSession::connect(conninfo(), "test");
  if (!session) throw std::runtime_error(session.error().message());
  const auto rows = session->query(text);
  if (!rows) throw std::runtime_error(text + ": " + rows.error().message());
  return rows->empty() || rows->front().empty() ? "" : rows->front().front().value_or("");
}

Lsn Server::flushed() const { return parse_lsn(sql("SELECT pg_current_wal_flush_lsn()")).value_or(Lsn{}); }
std::string Server::log() const { return feed_test::content_of(directory_ / "server.log"); }

std::string Server::conninfo(const std::string& more) const {
  return fmt::format("host={} port={} dbname=postgres {}", directory_.parent_path().string(), port_,
                     more.find("user=") == std::string::npos ? "user=postgres " + more : more);
}

}  // namespace slipstream::postgres::real
