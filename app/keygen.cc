#include <cstdio>

#include "app/commands.h"
#include "app/control.h"
#include "app/keys.h"

namespace slipstream::app {
namespace {

int print_public(const KeygenArguments& arguments, const seal::Secret& secret, const char* said) {
  const std::string key = seal::to_text(seal::key_pair_of(secret).public_key);
  if (arguments.json)
    std::printf("%s\n", Json{{"file", arguments.file}, {"public_key", key}}.dump(2).c_str());
  else
    std::printf("%spublic_key = \"%s\"\n", said, key.c_str());
  return 0;
}

}  // namespace

int keygen_command(const KeygenArguments& arguments) {
  if (arguments.show) {
    const auto secret = read_secret(arguments.file);
    return secret ? print_public(arguments, *secret, "") : report_error(secret.error());
  }
  const seal::Secret secret = seal::Secret::random(kernel_random());
  const char* what = arguments.cluster ? "slipstream cluster key: the same on every host, and on no other"
                                       : "slipstream host key: stays on this host";
  if (const auto written = write_secret(arguments.file, secret, what); !written) return report_error(written.error());
  if (!arguments.cluster)
    return print_public(arguments, secret, "# This host's; goes into its [[node]] in every host's configuration:\n");
  if (arguments.json)
    std::printf("%s\n", Json{{"file", arguments.file}}.dump(2).c_str());
  else
    std::printf("# Copy %s to every host of this cluster, for instance with scp -p.\n", arguments.file.c_str());
  return 0;
}

}  // namespace slipstream::app
