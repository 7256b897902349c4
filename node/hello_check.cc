#include "node/hello_check.h"

#include <fmt/format.h>

namespace slipstream::node {

using protocol::RefuseReason;

namespace {

std::optional<Objection> objection_by_promise(Epoch epoch, const protocol::Hello& hello, const Promise& promise,
                                              const std::string& name) {
  if (epoch.term < promise.epoch.term && !promise.candidate.empty())
    return Objection{RefuseReason::kFenced,
                     fmt::format("{} was fenced: it promised term {} to {}, {} comes with term {}", name,
                                 promise.epoch.term, promise.candidate, hello.primary_name, epoch.term)};
  if (epoch < promise.epoch)
    return Objection{RefuseReason::kStaleEpoch,
                     fmt::format("{} has promised epoch {}, {} comes with {}", name, to_string(promise.epoch),
                                 hello.primary_name, to_string(epoch))};
  if (epoch.term > promise.epoch.term) return std::nullopt;
  if (!promise.candidate.empty() && promise.candidate != hello.primary_name)
    return Objection{RefuseReason::kFenced, fmt::format("{} was fenced: term {} is promised to {}, not to {}", name,
                                                        epoch.term, promise.candidate, hello.primary_name)};
  if (!promise.identity.value.none() && promise.identity != hello.identity)
    return Objection{
        RefuseReason::kOtherIdentity,
        fmt::format("term {} belongs to another primary than {}: its state directory was lost or belongs elsewhere",
                    epoch.term, hello.primary_name)};
  return std::nullopt;
}

}  // namespace

std::optional<Objection> objection_to(const protocol::FrameHeader& header, const protocol::Hello& hello,
                                      const State& state, const std::string& name) {
  if (header.cluster != state.system)
    return Objection{RefuseReason::kCluster, fmt::format("{} holds the log of system {}, this is system {}", name,
                                                         state.system.value, header.cluster.value)};
  if (state.promoted)
    return Objection{RefuseReason::kDirectory, fmt::format("{} was promoted in term {}: {} is no longer its primary",
                                                           name, state.promise.epoch.term, hello.primary_name)};
  if (hello.version_min > protocol::kFormatVersion || hello.version_max < protocol::kFormatVersion)
    return Objection{RefuseReason::kVersion,
                     fmt::format("{} speaks format {}, the primary {} to {}", name, protocol::kFormatVersion,
                                 hello.version_min, hello.version_max)};
  if (hello.segment_size != state.segment_size)
    return Objection{RefuseReason::kSegmentSize, fmt::format("{} has segments of {} bytes, the primary of {}", name,
                                                             state.segment_size.value, hello.segment_size.value)};
  if (auto promised = objection_by_promise(header.epoch, hello, state.promise, name)) return promised;
  if (header.timeline < state.timeline)
    return Objection{RefuseReason::kTimeline, fmt::format("{} is on timeline {}, the primary on {}", name,
                                                          state.timeline.value, header.timeline.value)};
  return std::nullopt;
}

}  // namespace slipstream::node
