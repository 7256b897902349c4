#pragma once

#include <expected>
#include <filesystem>
#include <optional>
#include <string>

#include "app/control.h"
#include "base/error.h"

namespace slipstream::app {

// One `slipstream bypass on` or `off`, as recorded on the primary's host.
struct BypassEntry {
  bool on = false;
  std::string since;             // UTC, ISO 8601.
  std::string by;                // The operating system's user.
  std::string reason;            // Of `on`.
  std::string names_before;      // synchronous_standby_names as `on` found it.
  bool by_alter_system = false;  // It stood in postgresql.auto.conf.
};

// The record of bypasses: `bypass.jsonl` in the primary's state directory, one JSON object a line, the newest last. It
// is only ever appended to.
class BypassJournal {
 public:
  explicit BypassJournal(const std::filesystem::path& state_directory) : path_(state_directory / "bypass.jsonl") {}

  // On stable storage when this returns. Errors: kStorage.
  std::expected<void, Error> append(const BypassEntry& entry);
  // The newest entry; nothing without one. A line that was torn by a crash is passed over. Errors: kDirectory.
  std::expected<std::optional<BypassEntry>, Error> newest() const;

 private:
  std::filesystem::path path_;
};

Json to_json(const BypassEntry& entry);

}  // namespace slipstream::app
