#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "postgres/feed_session.h"

// What a session answers to commands.
namespace slipstream::postgres {
namespace {

using Column = BackendMessages::Column;
using Type = BackendMessages::Type;
using Value = BackendMessages::Value;

constexpr std::uint32_t kVersion15 = 150000, kVersion16 = 160000;

std::string size_text(ByteCount size) {
  const std::uint64_t mb = size.value >> 20;
  return mb >= 1024 ? fmt::format("{}GB", mb / 1024) : fmt::format("{}MB", mb);
}

std::optional<std::string> setting(const FeedContext& context, std::string_view name) {
  const std::uint32_t version = context.server_version_num;
  if (name == "wal_segment_size") return size_text(context.source->layout().segment_size());
  if (name == "server_version") return fmt::format("{}.{}", version / 10000, version % 10000);
  if (name == "server_version_num") return std::to_string(version);
  constexpr std::pair<std::string_view, std::string_view> kConstants[] = {{"data_directory_mode", "0700"},
                                                                          {"wal_block_size", "8192"},
                                                                          {"block_size", "8192"},
                                                                          {"wal_level", "replica"},
                                                                          {"in_hot_standby", "off"},
                                                                          {"transaction_read_only", "off"},
                                                                          {"default_transaction_read_only", "off"},
                                                                          {"integer_datetimes", "on"},
                                                                          {"server_encoding", "UTF8"},
                                                                          {"client_encoding", "UTF8"}};
  const auto* found = std::ranges::find(kConstants, name, &std::pair<std::string_view, std::string_view>::first);
  return found == std::end(kConstants) ? std::nullopt : std::optional<std::string>(found->second);
}

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace

void FeedSession::on_query(std::string_view text, const node::Release& release, Instant now) {
  const auto command = parse_feed_command(text);
  if (!command) return answer(command.error());
  const FeedContext& c = context_;
  std::visit(
      Overloaded{
          [&](const NoCommand&) {
            out_.empty_query_response();
            out_.ready_for_query();
          },
          [&](const IdentifySystem&) {
            const Type timeline_type = c.server_version_num >= kVersion16 ? Type::kInt8 : Type::kInt4;
            const Column columns[] = {{"systemid"}, {"timeline", timeline_type}, {"xlogpos"}, {"dbname"}};
            const Value values[] = {std::to_string(c.system.value), std::to_string(release.timeline.value),
                                    to_string(release.fed_end), std::nullopt};
            answer(columns, values, "IDENTIFY_SYSTEM");
          },
          [&](const Show& show) {
            const auto value = setting(c, show.name);
            if (!value)
              return answer(FeedError{"42704", fmt::format("unrecognized configuration parameter \"{}\"", show.name),
                                      "", "This is the feed of a slipstream replica."});
            const Column columns[] = {{show.name}};
            const Value values[] = {*value};
            answer(columns, values, "SHOW");
          },
          [&](const FetchHistory& fetch) {
            const std::string name = wal::history_file_name(fetch.timeline);
            const auto content = c.source->history_file(fetch.timeline);
            if (!content)
              return answer(FeedError{
                  "58P01", fmt::format("could not open file \"pg_wal/{}\": No such file or directory", name)});
            const Column columns[] = {{"filename"}, {"content"}};
            const Value values[] = {name, *content};
            answer(columns, values, "TIMELINE_HISTORY");
          },
          [&](const CreateSlot& slot) {
            const Column columns[] = {{"slot_name"}, {"consistent_point"}, {"snapshot_name"}, {"output_plugin"}};
            const Value values[] = {slot.name, "0/0", std::nullopt, std::nullopt};
            answer(columns, values, "CREATE_REPLICATION_SLOT");
          },
          [&](const ReadSlot&) {
            if (c.server_version_num < kVersion15)
              return answer(FeedError{"42601", "syntax error: READ_REPLICATION_SLOT came with version 15"});
            // Every name is a slot, and each holds all that the log has: what is kept is decided by the replica, not
            // here.
            const Column columns[] = {{"slot_type"}, {"restart_lsn"}, {"restart_tli", Type::kInt8}};
            const auto* history = c.source->history(release.timeline);
            const TimelineId timeline = history ? history->owner_of(c.source->log_begin()) : release.timeline;
            const Value values[] = {"physical", to_string(c.source->log_begin()), std::to_string(timeline.value)};
            answer(columns, values, "READ_REPLICATION_SLOT");
          },
          [&](const DropSlot&) { answer({}, {}, "DROP_REPLICATION_SLOT"); },
          [&](const StartStreaming& start) { on_start(start, release, now); },
          [&](const TakeBackup&) {
            answer(FeedError{
                "0A000", "a replica's feed cannot make base backups: it has the log, not the data", "",
                "Run pg_basebackup against the primary; slipstream init-standby does that for a new standby."});
          },
          [&](const AskConstant& ask) {
            const Column columns[] = {{ask.column}};
            const Value values[] = {ask.value};
            answer(columns, values, "SELECT 1");
          }},
      *command);
}

}  // namespace slipstream::postgres
