#include "app/toml_reader.h"

#include <fmt/format.h>

#include "app/config.h"
#include "base/nearest.h"

namespace slipstream::app {

const toml::node* TomlReader::get(const std::string& key) {
  known_.insert(key);
  return table_.get(key);
}

void TomlReader::fail_at(const toml::source_region& place, const std::string& what, const std::string& remedy) {
  if (problem_) return;
  problem_ = Error{ExitCode::kConfiguration, what, fmt::format("{}:{}:{}", path_, place.begin.line, place.begin.column),
                   remedy};
}

void TomlReader::fail(const std::string& key, const std::string& what, const std::string& remedy) {
  const toml::node* node = table_.get(key);
  fail_at(node ? node->source() : table_.source(), what, remedy);
}

void TomlReader::text(const std::string& key, std::string& out) {
  const toml::node* node = get(key);
  if (!node) return;
  if (const auto value = node->value_exact<std::string>())
    out = *value;
  else
    fail(key, fmt::format("{} must be a text in quotes", full(key)));
}

void TomlReader::required_text(const std::string& key, std::string& out) {
  if (!get(key)) {
    // Often it is there, misspelt.
    for (const auto& [name, value] : table_)
      if (const std::string candidates[] = {key};
          !known_.contains(std::string(name.str())) && nearest(name.str(), candidates))
        return fail_at(name.source(), fmt::format("unknown key \"{}\"", full(std::string(name.str()))),
                       fmt::format("did you mean \"{}\"?", key));
    fail(key, fmt::format("{} is missing", full(key)),
         fmt::format("add  {} = \"…\"  here; docs/operations.md lists the keys", key));
    return;
  }
  text(key, out);
  if (out.empty()) fail(key, fmt::format("{} must not be empty", full(key)));
}

void TomlReader::flag(const std::string& key, bool& out) {
  const toml::node* node = get(key);
  if (!node) return;
  if (const auto value = node->value_exact<bool>())
    out = *value;
  else
    fail(key, fmt::format("{} must be true or false", full(key)));
}

void TomlReader::number(const std::string& key, std::int64_t least, std::int64_t most, std::int64_t& out) {
  const toml::node* node = get(key);
  if (!node) return;
  const auto value = node->value_exact<std::int64_t>();
  if (value && *value >= least && *value <= most)
    out = *value;
  else
    fail(key, fmt::format("{} must be a whole number from {} to {}", full(key), least, most));
}

void TomlReader::probability(const std::string& key, double& out) {
  const toml::node* node = get(key);
  if (!node) return;
  const auto value = node->value<double>();
  if (value && *value >= 0 && *value <= 1)
    out = *value;
  else
    fail(key, fmt::format("{} must be a number from 0 to 1", full(key)));
}

void TomlReader::size(const std::string& key, ByteCount& out) {
  const toml::node* node = get(key);
  if (!node) return;
  const auto value = node->value_exact<std::string>();
  if (!value) return fail(key, fmt::format("{} must be a size with a unit in quotes, such as \"64MB\"", full(key)));
  const auto parsed = parse_size(*value);
  if (parsed)
    out = *parsed;
  else
    fail(key, fmt::format("{}: {}", full(key), parsed.error()));
}

void TomlReader::texts(const std::string& key, std::vector<std::string>& out) {
  const toml::node* node = get(key);
  if (!node) return;
  const toml::array* array = node->as_array();
  if (!array) return fail(key, fmt::format("{} must be a list of texts", full(key)));
  out.clear();
  for (const toml::node& element : *array) {
    const auto value = element.value_exact<std::string>();
    if (!value) return fail_at(element.source(), fmt::format("{} must be a list of texts", full(key)), "");
    out.push_back(*value);
  }
}

void TomlReader::choice(const std::string& key, const std::vector<std::string>& allowed, std::string& out) {
  std::string value = out;
  text(key, value);
  for (const std::string& each : allowed)
    if (value == each) {
      out = value;
      return;
    }
  const auto near = nearest(value, allowed);
  fail(key, fmt::format("{} = \"{}\" is none of: {}", full(key), value, fmt::join(allowed, ", ")),
       near ? fmt::format("did you mean \"{}\"?", *near) : "");
}

bool TomlReader::table(const std::string& key, const std::function<void(TomlReader&)>& read) {
  const toml::node* node = get(key);
  if (!node) return false;
  const toml::table* sub = node->as_table();
  if (!sub) {
    fail(key, fmt::format("{} must be a table: [{}]", full(key), full(key)));
    return false;
  }
  TomlReader reader(*sub, path_, full(key), problem_);
  read(reader);
  reader.finish();
  return true;
}

void TomlReader::tables(const std::string& key, const std::function<void(TomlReader&)>& read) {
  const toml::node* node = get(key);
  if (!node) return;
  const toml::array* array = node->as_array();
  if (!array) return fail(key, fmt::format("{} must be a list of tables: [[{}]]", full(key), full(key)));
  for (const toml::node& element : *array) {
    const toml::table* sub = element.as_table();
    if (!sub)
      return fail_at(element.source(), fmt::format("{} must be a list of tables: [[{}]]", full(key), full(key)), "");
    TomlReader reader(*sub, path_, full(key), problem_);
    read(reader);
    reader.finish();
  }
}

void TomlReader::finish() {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, value] : table_) {
    const std::string name(key.str());
    if (known_.contains(name)) continue;
    const auto near = nearest(name, known);
    fail_at(key.source(), fmt::format("unknown key \"{}\"", full(name)),
            near ? fmt::format("did you mean \"{}\"?", *near) : fmt::format("known here: {}", fmt::join(known, ", ")));
    return;
  }
}

}  // namespace slipstream::app
