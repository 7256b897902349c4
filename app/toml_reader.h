#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <toml++/toml.h>

#include "base/error.h"
#include "base/lsn.h"

namespace slipstream::app {

// Reads a TOML table strictly: every key must be asked for, every value must have the type asked for. Collects the
// first problem, with its place; later calls then yield defaults. Ask for all keys, then call finish().
class TomlReader {
 public:
  TomlReader(const toml::table& table, std::string path, std::string section, std::optional<Error>& problem)
      : table_(table), path_(std::move(path)), section_(std::move(section)), problem_(problem) {}

  void text(const std::string& key, std::string& out);
  void required_text(const std::string& key, std::string& out);
  void flag(const std::string& key, bool& out);
  void number(const std::string& key, std::int64_t least, std::int64_t most, std::int64_t& out);
  void probability(const std::string& key, double& out);
  void size(const std::string& key, ByteCount& out);
  void texts(const std::string& key, std::vector<std::string>& out);
  void choice(const std::string& key, const std::vector<std::string>& allowed, std::string& out);
  // Calls `read` with a reader of the sub-table, if there is one. Returns whether there was.
  bool table(const std::string& key, const std::function<void(TomlReader&)>& read);
  void tables(const std::string& key, const std::function<void(TomlReader&)>& read);  // An array of tables.

  bool has(const std::string& key) const { return table_.contains(key); }
  void finish();  // Unknown keys are problems.
  void fail(const std::string& key, const std::string& what,
            const std::string& remedy = "");  // At the key's place, or the table's.

 private:
  const toml::node* get(const std::string& key);
  void fail_at(const toml::source_region& place, const std::string& what, const std::string& remedy);
  std::string full(const std::string& key) const { return section_.empty() ? key : section_ + "." + key; }

  const toml::table& table_;
  std::string path_;
  std::string section_;
  std::optional<Error>& problem_;
  std::set<std::string> known_;
};

}  // namespace slipstream::app
