#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "app/control.h"
#include "base/error.h"
#include "node/replica_node.h"

namespace slipstream::app {

// A member's answer to a fence, as a JSON file that can be carried between hosts (docs/operations.md, "Promotion").
Json evidence_json(const node::Evidence& evidence);
std::expected<node::Evidence, Error> parse_evidence(const Json& json, const std::string& where);

struct PromotionOptions {
  bool sole_survivor = false;  // The members present need not be a majority (P3).
  bool accept_loss = false;    // They need not be a recovery set (P5).
};

struct PromotionPlan {
  std::uint32_t term = 0;
  Lsn end;                            // Everything durable up to here is promoted.
  std::vector<std::string> present;   // Members whose evidence was compared.
  std::vector<std::string> missing;   // Members of the policy that were not.
  std::string may_be_missing;         // Non-empty with accept_loss: what may be lost, in words.
};

// May `own` be promoted, given its own evidence and the others'? Rules P1 to P4 of docs/guarantees.md. Refusals (kRefused) name the member that is better, the evidence
// that is missing, or the other candidate.
std::expected<PromotionPlan, Error> plan_promotion(const node::Evidence& own, std::span<const node::Evidence> others,
                                                   const PromotionOptions& options);

// Whether log `a` is better than log `b` (P4): the longer if one is a prefix of the other, else the later label at the first difference, then the longer.
bool better_log(const node::Evidence& a, const node::Evidence& b);

}  // namespace slipstream::app
