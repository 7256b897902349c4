#include "app/control.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tests/wal/io/world.h"

namespace slipstream::app {
namespace {

using namespace std::chrono_literals;

TEST(Control, FieldsOfAWrongTypeAreToldAndEndNothing) {
  const wal::io::TemporaryDirectory directory;
  const std::string path = directory.path() / "control.sock";
  const auto server = ControlServer::start(path, [](const Json& request) -> std::expected<Json, Error> {
    const std::string candidate = request.value("candidate", "");
    return Json{{"term", request.contains("term") ? whole<std::uint32_t>(request["term"]) : 7}, {"of", candidate}};
  });
  ASSERT_TRUE(server) << server.error().message();
  for (const Json& wrong : {Json{{"candidate", 5}}, Json{{"term", "1"}}, Json{{"term", -1}}, Json{{"term", 1.5}},
                            Json{{"term", 4'294'967'296u}}}) {
    Json request = wrong;
    request["command"] = "fence";
    const auto answer = control_call(path, request, 5s);
    ASSERT_FALSE(answer) << request;
    EXPECT_EQ(answer.error().code, ExitCode::kUsage);
    EXPECT_NE(answer.error().what.find("a field of the request is wrong"), std::string::npos) << answer.error().what;
  }
  const auto answer = control_call(path, {{"command", "fence"}, {"candidate", "b"}, {"term", 4'294'967'295u}}, 5s);
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ((*answer)["term"], 4'294'967'295u);
}

}  // namespace
}  // namespace slipstream::app
