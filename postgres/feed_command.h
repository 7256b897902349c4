#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <variant>

#include "base/ids.h"
#include "base/lsn.h"
#include "postgres/feed_messages.h"

namespace slipstream::postgres {

// The replication commands that walreceivers and PostgreSQL's tools send, and the few questions that libpq asks of its
// own accord. Source of the grammar: PostgreSQL's repl_gram.y and repl_scanner.l, versions 13 to 18.
struct IdentifySystem {};
struct Show {
  std::string name;
};
struct FetchHistory {  // TIMELINE_HISTORY
  TimelineId timeline;
};
struct CreateSlot {
  std::string name;
  bool temporary = false;
};
struct ReadSlot {
  std::string name;
};
struct DropSlot {
  std::string name;
};
struct StartStreaming {  // START_REPLICATION, physical
  std::string slot;
  Lsn start;
  TimelineId timeline;  // 0: the server's.
};
struct TakeBackup {};  // BASE_BACKUP
struct AskConstant {   // SELECT set_config('search_path', ...), SELECT pg_is_in_recovery()
  std::string column;
  std::string value;
};
struct NoCommand {};
using FeedCommand = std::variant<NoCommand, IdentifySystem, Show, FetchHistory, CreateSlot, ReadSlot, DropSlot,
                                 StartStreaming, TakeBackup, AskConstant>;

// Keywords in any case; names "quoted" or not. Pure.
std::expected<FeedCommand, FeedError> parse_feed_command(std::string_view text);

}  // namespace slipstream::postgres
