#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "base/error.h"

namespace slipstream::app {

// Runs a program with our standard output and error, as `user` when we are root (empty: as ourselves). Errors: it could
// not be started, or ended with another status than 0.
std::expected<void, Error> run_program(const std::vector<std::string>& command, const std::string& user, ExitCode code);

// The same, but what it prints on standard output is returned.
std::expected<std::string, Error> output_of_program(const std::vector<std::string>& command, const std::string& user,
                                                    ExitCode code);

// PostgreSQL's program of this name: from Debian's directory for this major version, else from PATH.
std::string postgres_program(const std::string& name, std::uint32_t server_version_num);

}  // namespace slipstream::app
