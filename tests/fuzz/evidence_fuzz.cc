#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/log_order.h"
#include "app/promotion.h"
#include "base/check.h"

namespace {

using namespace slipstream;
using namespace slipstream::app;

// The candidate's own: as in the corpus, but of a.
node::Evidence own() {
  node::Evidence e;
  e.name = std::string("a"), e.id = NodeId{2}, e.log_id = LogId{{7, 2}};
  e.system = SystemId{77}, e.timeline = TimelineId{1};
  e.promise = {{2, 0}, Identity{{11, 22}}, "a"};
  e.held_epoch = {1, 1};
  e.counted_end = Lsn{0x300100}, e.log_begin = Lsn{0x300000}, e.durable_end = Lsn{0x318000},
  e.final_end = Lsn{0x310000};
  e.standby_ready = true;
  e.epoch_map = {{{1, 1}, e.log_begin, e.timeline, e.promise.identity}};
  e.policy = {1, "ANY 1 (a, b)", {{"a", e.id, e.log_id}, {"b", NodeId{3}, LogId{{7, 3}}}}};
  e.blocks = {{{Lsn{0x300000}, Lsn{0x310000}}, {1, 2}}, {{Lsn{0x310000}, Lsn{0x318000}}, {5, 6}}};
  return e;
}

}  // namespace

// Whatever a file says: it is understood or refused, and then a promotion is planned with it or refused. A plan never
// promotes less than the candidate holds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto evidence = parse_evidence(Json::parse(text, nullptr, false), "the input");
  if (!evidence) {
    CHECK(evidence.error().code == ExitCode::kUsage && !evidence.error().what.empty());
    return 0;
  }
  const std::vector<node::Evidence> others{*evidence};
  for (const bool accept_loss : {false, true}) {
    const auto plan = plan_promotion(own(), others, {true, accept_loss});
    if (plan)
      CHECK(plan->end == own().durable_end && plan->present.size() == 2);
    else
      CHECK(!plan.error().what.empty());
    (void)better_log(own(), *evidence), (void)better_log(*evidence, own());
  }
  return 0;
}
