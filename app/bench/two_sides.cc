#include "app/bench/two_sides.h"
#include "app/keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace slipstream::app::bench {
namespace {

// A process of this program whose standard output is ours to read.
class Side {
 public:
  explicit Side(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"slipstream", "bench"});
    std::vector<char*> argv;
    for (std::string& each : arguments) argv.push_back(each.data());
    argv.push_back(nullptr);
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    output_ = ends[0];
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      dup2(ends[1], STDOUT_FILENO);
      execv("/proc/self/exe", argv.data());
      _exit(127);
    }
    ::close(ends[1]);
  }
  ~Side() {
    if (child_ > 0) finish(SIGKILL);
    if (output_ >= 0) ::close(output_);
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  // What it prints until it ends, of its own accord or by `signal`, and its exit code.
  std::pair<std::string, int> finish(int signal = 0) {
    if (child_ <= 0) return {"", 1};
    if (signal != 0) kill(child_, signal);
    std::string text;
    char buffer[4096];
    while (true) {
      const ssize_t got = read(output_, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(buffer, static_cast<std::size_t>(got));
    }
    int status = 0;
    while (waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = -1;
    return {text, WIFEXITED(status) ? WEXITSTATUS(status) : 128};
  }

 private:
  int output_ = -1;
  pid_t child_ = -1;
};

// What the configurations say of keys; empty in plaintext.
struct SealLines {
  std::string keys;  // The directory of the key files.
  std::string primary_node, replica_node;
};

std::expected<SealLines, Error> make_keys(const std::filesystem::path& scratch) {
  SealLines out{scratch.string(), "", ""};
  for (const char* name : {"cluster", "p", "a"}) {
    const seal::Secret secret = seal::Secret::random(kernel_random());
    if (auto written = write_secret(scratch / (std::string(name) + ".key"), secret, "of a benchmark"); !written)
      return std::unexpected(written.error());
    (*name == 'p' ? out.primary_node : out.replica_node) =
        fmt::format("public_key = \"{}\"\n", seal::to_text(seal::key_pair_of(secret).public_key));
  }
  return out;
}

std::string config_text(const TwoSides& sides, SealLines seal, bool primary, const std::filesystem::path& scratch,
                        const std::filesystem::path& log) {
  const char* name = primary ? "p" : "a";
  std::string text = fmt::format(
      "name = \"{}\"\nrole = \"{}\"\nsecurity = \"{}\"\n{}[runtime]\nidle = \"{}\"\nring = \"64MB\"\nhugepages = "
      "\"off\"\nmemory_mb = 256\nfile_prefix = \"slipstream-bench-{}-{}\"\ncontrol_socket = \"{}\"\n",
      name, primary ? "primary" : "replica", sides.security,
      seal.keys.empty()
          ? ""
          : fmt::format("[seal]\nhost_key = \"{0}/{1}.key\"\ncluster_key = \"{0}/cluster.key\"\n", seal.keys, name),
      sides.idle, getpid(), name, (scratch / (std::string(name) + ".sock")).string());
  text += primary ? fmt::format(
                        "[policy]\ncommit = \"ANY 1 (a)\"\n[primary]\nconninfo = \"generated WAL\"\nstate_directory = "
                        "\"{}\"\n",
                        (scratch / "p").string())
                  : fmt::format("[replica]\ndirectory = \"{}\"\nlog_only = true\n", (log / "a").string());
  // Loopback has addresses enough that no two runs meet.
  const std::string network =
      sides.device == "memif" ? "10.77.0" : fmt::format("127.{}.{}", 1 + getpid() / 250 % 250, 1 + getpid() % 250);
  text +=
      fmt::format("[[port]]\nname = \"wire\"\nmtu = {}\naddress = \"{}.{}\"\n", sides.mtu, network, primary ? 1 : 2);
  text += sides.device == "memif"
              ? fmt::format(
                    "vdev = \"net_memif0,role={},id=0,socket={},socket-abstract=no,mac=02:00:00:00:0{}:02,"
                    "rsize=11,bsize={}\"\n",
                    primary ? "server" : "client", (scratch / "memif.sock").string(), primary ? 1 : 2,
                    sides.mtu <= 1600 ? 2048 : 10240)
              : "kernel_udp = true\n";
  if (!primary && sides.loss > 0) text += fmt::format("[port.faults]\nloss = {}\n", sides.loss);
  text += fmt::format("[[node]]\nname = \"p\"\nnumber = 1\nrole = \"primary\"\naddress = \"{}.1\"\n{}{}", network,
                      seal.primary_node, primary ? "" : "via = \"wire\"\n");
  text += fmt::format("[[node]]\nname = \"a\"\nnumber = 2\naddress = \"{}.2\"\n{}{}", network, seal.replica_node,
                      primary ? "via = \"wire\"\n" : "");
  return text;
}

Json parsed(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json() : json;
}

}  // namespace

std::expected<ScratchDirectory, Error> ScratchDirectory::make(const std::filesystem::path& parent) {
  std::string path = (parent / "slipstream-bench-XXXXXX").string();
  if (!mkdtemp(path.data()))
    return std::unexpected(Error{ExitCode::kDirectory,
                                 std::string("cannot make a directory in it: ") + std::strerror(errno), parent.string(),
                                 "name another --directory"});
  return ScratchDirectory(path);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::expected<BothSaid, Error> run_two_sides(const TwoSides& sides) {
  const auto scratch = ScratchDirectory::make("/tmp");
  if (!scratch) return std::unexpected(scratch.error());
  const auto log = ScratchDirectory::make(sides.directory);
  if (!log) return std::unexpected(log.error());
  SealLines seal;
  if (sides.security == "sealed") {
    auto made = make_keys(scratch->path());
    if (!made) return std::unexpected(made.error());
    seal = std::move(*made);
  }
  const std::string primary = scratch->path() / "p.toml", replica = scratch->path() / "a.toml";
  std::ofstream(primary) << config_text(sides, seal, true, scratch->path(), log->path());
  std::ofstream(replica) << config_text(sides, seal, false, scratch->path(), log->path());
  Side receiver({"receive", "-c", replica, "--sink", sides.sink});
  std::vector<std::string> arguments = sides.sender;
  arguments.insert(arguments.end(), {"-c", primary});
  const auto [said, code] = Side(std::move(arguments)).finish();
  const auto [heard, receiver_code] = receiver.finish(SIGTERM);
  for (const int each : {code, receiver_code})
    if (each != 0)
      return std::unexpected(Error{static_cast<ExitCode>(each), "one side of the benchmark failed", "this host",
                                   "its own message stands above"});
  return BothSaid{parsed(said), parsed(heard)};
}

}  // namespace slipstream::app::bench
