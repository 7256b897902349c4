#pragma once

#include "protocol/body_io.h"
#include "protocol/frame.h"

// Control frames' bodies: fixed fields in the order of docs/wire_format.md, then tagged extras.
namespace slipstream::protocol {

FrameKind kind_of(const Body& body);
bool known_control(FrameKind kind);  // Version 1 has a body for it.
void write_body(BodyWriter& out, const Body& body);
// All of the body of a known control kind, every bound and relation checked.
Verdict read_body(std::span<const std::byte> bytes, FrameKind kind, Body& out);

}  // namespace slipstream::protocol
