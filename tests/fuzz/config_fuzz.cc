#include <cstddef>
#include <cstdint>
#include <string_view>

#include "app/config.h"
#include "base/check.h"

// A text is a configuration, or refused with what is wrong and what to do.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipstream;
  const auto config = app::parse_config({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
  if (config)
    CHECK(!config->name.empty() && !config->nodes.empty());
  else
    CHECK(!config.error().what.empty() && config.error().code == ExitCode::kConfiguration);
  return 0;
}
