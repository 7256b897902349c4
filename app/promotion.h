#pragma once

#include <cstdint>
#include <expected>
#include <optional>
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

Json members_json(const std::vector<node::MemberRecord>& members);
std::expected<std::vector<node::MemberRecord>, Error> parse_members(const Json& json);  // As members_json() made it.

Json ranges_json(std::span<const LsnRange> ranges);
std::expected<std::vector<LsnRange>, Error> parse_ranges(const Json& json);  // As ranges_json() made it.

// [{"from": "0/3000000", "to": null}]: a mark without an end is open.
Json marks_json(const node::Marks& marks);

// From a file that evidence_json() was written to.
std::expected<node::Evidence, Error> read_evidence(const std::string& file);

struct PromotionOptions {
  bool sole_survivor = false;  // The members present need not be a majority (P3).
  bool accept_loss = false;    // They need not be a recovery set (P5).
};

struct PromotionPlan {
  std::uint32_t term = 0;
  Lsn end;                           // Everything durable up to here is promoted.
  std::vector<std::string> present;  // Members whose evidence was compared.
  std::vector<std::string> missing;  // Members of the policy that were not.
  std::vector<node::MemberRecord>
      unfenced;                // The same, as the member list has them: not known to have promised this term.
  node::Marks not_held;        // R2: what PostgreSQL let return without replicas and this log does not hold.
  std::string may_be_missing;  // In words, with accept_loss or not_held; else empty.
};

// The policies by each of which members must be a recovery set (Q4): one, unless copies of the primary's state
// directory were put back.
std::vector<node::PolicyRecord> binding_policies(std::span<const node::Evidence* const> members);

// May `own` be promoted, given its own evidence and the others'? Rules P1 to P4 of docs/guarantees.md. Refusals
// (kRefused) name the member that is better, the evidence that is missing, or the other candidate.
std::expected<PromotionPlan, Error> plan_promotion(const node::Evidence& own, std::span<const node::Evidence> others,
                                                   const PromotionOptions& options);

}  // namespace slipstream::app
