#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "app/control.h"
#include "app/daemon.h"
#include "app/file_disk.h"
#include "app/joined_replicas.h"
#include "app/ledger_keeper.h"
#include "app/mailbox.h"
#include "app/memory.h"
#include "app/network.h"
#include "app/primary_control.h"
#include "app/service_notifier.h"
#include "app/status.h"
#include "dataplane/idle.h"
#include "node/met_replicas.h"
#include "node/step.h"
#include "postgres/sql_session.h"
#include "postgres/upstream.h"
#include "wal/io/files.h"
#include "wal/io/stale_pages.h"
#include "wal/io/written_watch.h"

namespace slipstream::app {
namespace {

constexpr std::size_t kCatchUpBytesPerReplica = 2u << 20;
constexpr Duration kTakeWritten = microseconds(20);  // Though nothing told of it: a thread that is busy never sleeps.

// What the identity of a primary is bound to: this machine and this data directory (E1).
std::string machine_of(const std::string& data_directory) {
  std::string id;
  std::ifstream("/etc/machine-id") >> id;
  struct stat info{};
  const bool known = stat(data_directory.c_str(), &info) == 0;
  return fmt::format("{} {}", id, known ? info.st_ino : 0);
}

std::expected<node::State, Error> load_or_make_state(const std::filesystem::path& path,
                                                     const postgres::PrimaryFacts& facts,
                                                     std::optional<std::uint32_t> claim_term,
                                                     std::span<const ack::Member> replicas) {
  const std::string machine = machine_of(facts.data_directory);
  node::State state;
  if (std::filesystem::exists(path)) {
    const auto content = wal::io::read_durable(path);
    if (!content) return std::unexpected(content.error());
    auto decoded = node::decode_state(*content, path.string());
    if (!decoded) return std::unexpected(decoded.error());
    state = std::move(*decoded);
  }
  const bool fresh = state.identity.value.none();
  const auto bad = [&](std::string what, std::string remedy) {
    return std::unexpected(Error{ExitCode::kDirectory, std::move(what), path.string(), std::move(remedy)});
  };
  if (!fresh && state.role != node::State::Role::kPrimary)
    return bad("this is a replica's directory, not a primary's", "correct primary.state_directory");
  if (!fresh && state.system.value != 0 && state.system != facts.system)
    return bad(fmt::format("this state belongs to the cluster with system identifier {}, PostgreSQL's is {}",
                           state.system.value, facts.system.value),
               "point conninfo at the right server, or use another state_directory");
  if (!fresh && state.segment_size.value != 0 && state.segment_size != facts.segment_size)
    return bad(fmt::format(
                   "this state belongs to a cluster with segments of {} bytes, PostgreSQL's have {} (wal_segment_size)",
                   state.segment_size.value, facts.segment_size.value),
               "point conninfo at the right server, or make the state_directory and the replicas anew");
  if (!fresh && facts.timeline < state.timeline)
    return bad(
        fmt::format(
            "PostgreSQL is on timeline {}, but timeline {} was served from here before: this server is an older one",
            facts.timeline.value, state.timeline.value),
        "point conninfo at the newer server; to go on with the older one: another state_directory, a higher term "
        "(--claim-term), and new replicas");
  if (!fresh && state.machine != machine && !claim_term)
    return bad("this state was made on another machine or for another data directory",
               "if this server is the only primary now: slipstream run -c FILE --claim-term N, N above every term in "
               "use (slipstream status of a replica shows it)");
  if (claim_term && !fresh && *claim_term <= state.own_epoch.term)
    return bad(fmt::format("term {} is not above the {} that is owned here", *claim_term, state.own_epoch.term),
               "name a higher term");
  if (fresh || claim_term) {
    state.role = node::State::Role::kPrimary;
    state.identity = Identity{{random_u64(), random_u64()}};
    state.own_epoch = {claim_term.value_or(1), 0};
    state.superseded = false;
  }
  if (claim_term) node::expect_all(state, replicas);
  state.machine = machine;
  state.system = facts.system;
  return state;
}

std::string read_history(const std::filesystem::path& wal, TimelineId timeline) {
  if (timeline.value <= 1) return "";
  const auto content = wal::io::read_file(wal / wal::history_file_name(timeline));
  return content ? std::string(reinterpret_cast<const char*>(content->data()), content->size()) : "";
}

// Confirmed bytes were flushed, and PostgreSQL's stream said the same of them. In any other state it is not sure whose
// files lie there.
std::optional<CompleteLog> complete_log(const node::PrimaryNode& node) {
  const node::PrimaryView view = node.snapshot(dataplane::monotonic_now()).primary;
  if (view.state != "running") return std::nullopt;
  return CompleteLog{{Lsn{0}, view.confirmed_end}, view.timeline};
}

}  // namespace

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  CHECK(getrandom(&value, sizeof value, 0) == sizeof value);
  return value;
}

std::expected<void, Error> run_primary(const Config& config, std::optional<std::uint32_t> claim_term,
                                       const std::atomic<bool>& stop) {
  const std::filesystem::path state_directory = config.primary.state_directory;
  std::error_code ignored;
  std::filesystem::create_directories(state_directory, ignored);
  auto lock = wal::io::DirectoryLock::acquire(state_directory);
  if (!lock) return std::unexpected(lock.error());

  auto session = postgres::SqlSession::connect(config.primary.conninfo, config.primary.application_name + "_check");
  if (!session) return std::unexpected(session.error());
  const auto facts = postgres::check_primary(*session);
  if (!facts) return std::unexpected(facts.error());
  if (auto slot = postgres::ensure_slot(*session, config.primary.slot); !slot) return std::unexpected(slot.error());
  const wal::SegmentLayout layout(facts->segment_size);
  const std::filesystem::path wal_directory = config.primary.wal_directory.empty()
                                                  ? std::filesystem::path(facts->data_directory) / "pg_wal"
                                                  : std::filesystem::path(config.primary.wal_directory);
  if (auto fit = wal::io::check_wal_directory(wal_directory, layout); !fit) return std::unexpected(fit.error());
  std::vector<ack::Member> replicas;
  for (const NodeConfig* replica : config.replicas()) replicas.push_back({replica->number, replica->name});
  auto state = load_or_make_state(state_directory / "state", *facts, claim_term, replicas);
  if (!state) return std::unexpected(state.error());

  auto network = Network::open(config);
  if (!network) return std::unexpected(network.error());

  dataplane::Waker waker;
  const auto wake = [&waker] { waker.notify(); };
  Memory ring(config.runtime.ring.value),
      catch_up(kCatchUpBytesPerReplica * std::max<std::size_t>(1, config.replicas().size()));
  FileDisk disk({wal_directory, state_directory / "state", facts->segment_size, facts->timeline,
                 read_history(wal_directory, facts->timeline), false, facts->system, config.primary.restore_command,
                 wake});
  const std::span<std::byte> regions[] = {ring.span(), catch_up.span()};
  disk.register_memory(regions);
  if (!disk.note().empty()) spdlog::warn("{}", disk.note());

  node::PrimaryOptions options;
  options.id = config.self().number, options.name = config.name, options.policy = config.policy;
  options.replicas = std::move(replicas);
  options.ship_written = config.primary.ship == "written";
  options.catch_up_rate = config.primary.catch_up_rate;
  options.slow_backlog = config.primary.slow_backlog;
  for (const NodeConfig* replica : config.replicas()) options.rate_limits.push_back(replica->limits);
  options.random_seed = random_u64();
  node::PrimaryNode node(options, std::move(*state), ring.span(), catch_up.span(), dataplane::monotonic_now());
  postgres::UpstreamOptions server{config.primary.conninfo, config.primary.application_name, config.primary.slot,
                                   facts->system, wake};
  server.on_data_thread = config.runtime.idle != "spin" && network->wakes();
  if (options.ship_written)
    server.stale_end = [&](Lsn flushed_end, TimelineId timeline) {
      return wal::io::stale_pages_end(wal_directory, layout, timeline, flushed_end);
    };
  postgres::PostgresUpstream upstream(std::move(server));

  waker.watch_only([&] { return node.wants_upstream() ? upstream.readable_fd() : -1; },
                   [&] { upstream.on_readable(); });

  Mailbox mailbox(wake);
  PrimaryControl answers(config, node, mailbox, upstream, disk, *network);
  auto control =
      ControlServer::start(config.runtime.control_socket, [&](const Json& request) { return answers.answer(request); });
  if (!control) return std::unexpected(control.error());
  spdlog::info("primary {}: system {}, timeline {}, policy \"{}\", WAL in {}", config.name, facts->system.value,
               facts->timeline.value, config.policy, wal_directory.string());

  LedgerKeeper ledgers({wal_directory, state_directory / "ledger", layout,
                        [&] { return mailbox.call([&] { return complete_log(node); }); }});
  ServiceNotifier notifier(
      [&] { return mailbox.call([&] { return service_line(node.snapshot(dataplane::monotonic_now())); }); });
  std::optional<wal::io::WrittenWatch> written;
  bool written_came = false;
  Instant written_taken{};
  if (options.ship_written) {
    auto watch = wal::io::WrittenWatch::start(wal_directory);
    if (!watch) return std::unexpected(watch.error());
    waker.watch_only([fd = written.emplace(std::move(*watch)).fd()] { return fd; }, [&] { written_came = true; });
  }
  std::string state_shown;
  JoinedReplicas joined;
  Instant looked{};
  network->run(
      config, &disk, waker,
      [&](Instant now) {
        if (written && (written_came || now - written_taken >= kTakeWritten)) {
          written_came = false, written_taken = now;
          if (written->take()) node.on_written();
        }
        const bool stepped = node::step(node, network->port(), disk, upstream, now);
        const bool worked = mailbox.drain() || stepped;
        if (now - looked > seconds(1)) {
          looked = now;
          const node::Snapshot snapshot = node.snapshot(now);
          const std::string shown = state_line(snapshot);
          if (shown != state_shown) spdlog::info("{}", state_shown = shown);
          for (const std::string& name : joined.look(snapshot.primary))
            upstream.drop_slot(postgres::joining_slot(config.primary.slot, name));
        }
        return worked;
      },
      [&] { return node.deadline(); }, stop);
  ServiceNotifier::stopping();
  mailbox.close();  // First: whoever still asks is answered.
  notifier.stop();
  control->reset();
  ledgers.stop();
  spdlog::info("primary {}: stopped in order", config.name);
  return {};
}

}  // namespace slipstream::app
