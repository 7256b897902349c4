#pragma once

#include <expected>
#include <functional>

#include "app/bypass_journal.h"
#include "app/config.h"
#include "app/control.h"
#include "app/file_disk.h"
#include "app/mailbox.h"
#include "app/network.h"
#include "node/primary_node.h"
#include "postgres/upstream.h"

namespace slipstream::app {

// Answers a primary's control socket, on its thread. Everything about the node is asked of the data thread.
class PrimaryControl {
 public:
  PrimaryControl(const Config& config, node::PrimaryNode& node, Mailbox& mailbox,
                 const postgres::PostgresUpstream& upstream, const FileDisk& disk, const Network& network)
      : config_(config),
        node_(node),
        mailbox_(mailbox),
        upstream_(upstream),
        disk_(disk),
        network_(network),
        bypasses_(config.primary.state_directory) {}

  std::expected<Json, Error> answer(const Json& request);

 private:
  Json status();
  // Marks "not held" before synchronous_standby_names changes: durable here when this returns, and as a rule on the
  // replicas that stream.
  std::expected<Json, Error> expect_bypass();
  node::Snapshot snapshot();

  const Config& config_;
  node::PrimaryNode& node_;
  Mailbox& mailbox_;
  const postgres::PostgresUpstream& upstream_;
  const FileDisk& disk_;
  const Network& network_;
  const BypassJournal bypasses_;
};

}  // namespace slipstream::app
