#include "dataplane/udp_port.h"

#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dataplane/packet.h"

namespace slipstream::dataplane {
namespace {

constexpr int kBufferBytes = 8 << 20, kBufferEnough = 1 << 20;
constexpr std::size_t kSegmentsMax = 64;       // Linux' UDP_MAX_SEGMENTS in every version.
constexpr std::size_t kSentBytesMax = 65'000;  // One message before it is cut.

Error port_error(const UdpOptions& options, const std::string& what, int problem, std::string remedy) {
  return {ExitCode::kPort, what + ": " + std::strerror(problem),
          "port \"" + options.name + "\", " + options.address + ":" + std::to_string(options.udp_port),
          std::move(remedy)};
}

std::optional<sockaddr_in> socket_address(const std::string& address, std::uint16_t udp_port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(udp_port);
  return ::inet_pton(AF_INET, address.c_str(), &out.sin_addr) == 1 ? std::optional(out) : std::nullopt;
}

void set(int socket, int level, int option, int value) {
  (void)::setsockopt(socket, level, option, &value, sizeof value);
}

// As large as asked for where we may, or as net.core allows. Returns what it is (the kernel counts twice).
int enlarge(int socket, int forced, int option) {
  set(socket, SOL_SOCKET, option, kBufferBytes);
  set(socket, SOL_SOCKET, forced, kBufferBytes);
  int value = 0;
  socklen_t size = sizeof value;
  (void)::getsockopt(socket, SOL_SOCKET, option, &value, &size);
  return value / 2;
}

// The space that a message's UDP_SEGMENT or UDP_GRO takes.
struct alignas(cmsghdr) Control {
  std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes{};
};

}  // namespace

std::expected<std::unique_ptr<UdpPort>, Error> UdpPort::open(const UdpOptions& options,
                                                             const std::vector<PeerConfig>& peers) {
  const auto self = socket_address(options.address, options.udp_port);
  if (!self) return std::unexpected(port_error(options, "no IPv4 address", EINVAL, "correct the port's address"));
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket < 0)
    return std::unexpected(port_error(options, "cannot make a socket", errno, "raise the limit of open files"));
  std::unique_ptr<UdpPort> port(new UdpPort(options, socket));
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&*self), sizeof *self) != 0)
    return std::unexpected(port_error(options, "cannot use the address", errno,
                                      errno == EADDRINUSE ? "another process has it (ss -ulnp), perhaps another node's "
                                                            "daemon on this host: end that, or give this node an "
                                                            "address or a udp_port of its own, in every configuration"
                                                          : "set the port's address to one of this host (ip -4 addr)"));
  port->prepare_socket();
  for (const PeerConfig& each : peers)
    if (auto added = port->add_peer(each); !added) return std::unexpected(added.error());
  return port;
}

UdpPort::UdpPort(UdpOptions options, int socket)
    : options_(std::move(options)), socket_(socket), out_(kQueueMax * options_.mtu), in_(kArrivals * kArrivalBytes) {}

UdpPort::~UdpPort() { ::close(socket_); }

void UdpPort::prepare_socket() {
  // Frames are never fragmented, and no router's word changes their size.
  set(socket_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  set(socket_, IPPROTO_UDP, UDP_GRO, 1);
  (void)enlarge(socket_, SO_SNDBUFFORCE, SO_SNDBUF);
  if (const int bytes = enlarge(socket_, SO_RCVBUFFORCE, SO_RCVBUF); bytes < kBufferEnough)
    warning_ = "port \"" + options_.name + "\": the socket's receive buffer has only " + std::to_string(bytes / 1024) +
               " kB, so bursts will be lost and sent again; sysctl net.core.rmem_max=" + std::to_string(kBufferBytes);
}

std::expected<void, Error> UdpPort::add_peer(const PeerConfig& config) {
  const auto address = socket_address(config.address, config.udp_port);
  if (!address)
    return std::unexpected(Error{ExitCode::kPort, "\"" + config.address + "\" is no IPv4 address",
                                 "node " + std::to_string(config.id.value), "correct its address"});
  peers_.push_back(std::make_unique<Peer>(Peer{config.id, *address, 0}));
  return {};
}

std::optional<std::uint64_t> UdpPort::missed() const {
  std::array<std::uint32_t, SK_MEMINFO_VARS> counts{};
  socklen_t size = sizeof counts;
  return ::getsockopt(socket_, SOL_SOCKET, SO_MEMINFO, counts.data(), &size) == 0
             ? std::optional<std::uint64_t>(counts[SK_MEMINFO_DROPS])
             : std::nullopt;
}

UdpPort::Peer* UdpPort::peer(NodeId id) const {
  const auto it = std::ranges::find_if(peers_, [&](const auto& each) { return each->id == id; });
  return it == peers_.end() ? nullptr : it->get();
}

std::size_t UdpPort::frame_bytes_max(NodeId id) const { return peer(id) ? options_.mtu - kIpUdpBytes : 0; }

std::size_t UdpPort::room(NodeId id) {
  if (queued_ == kQueueMax) send_queued();
  return peer(id) ? kQueueMax - queued_ : 0;
}

void UdpPort::send(NodeId id, const node::OutFrame& frame) {
  const std::span<std::byte> place = *append(id, frame.head_bytes + frame.payload.size());
  if (!place.empty()) node::copy_frame(frame, place);
}

std::optional<std::span<std::byte>> UdpPort::append(NodeId id, std::size_t bytes) {
  constexpr std::span<std::byte> kDropped{};
  Peer* to = peer(id);
  if (!to) return kDropped;  // It has no room() either.
  if (queued_ == kQueueMax) send_queued();
  if (queued_ == kQueueMax || bytes > options_.mtu) {
    ++counters_.dropped;
    return kDropped;
  }
  queue_[queued_] = {to, bytes};
  return std::span(memory_of(queued_++), bytes);
}

void UdpPort::flush() {
  if (first_ < queued_) send_queued();
}

// How many frames from queue_[first] on the kernel can cut one message into: to one peer, of one size, but that the
// last may be shorter.
std::size_t UdpPort::frames_of_message(std::size_t first) const {
  const Queued& one = queue_[first];
  std::size_t count = 1;
  for (std::size_t bytes = one.bytes; cuts_ && count < kSegmentsMax && first + count < queued_; ++count) {
    const Queued& next = queue_[first + count];
    bytes += next.bytes;
    if (next.to != one.to || next.bytes > one.bytes || bytes > kSentBytesMax) break;
    if (next.bytes < one.bytes) return count + 1;
  }
  return count;
}

// One system call for all that is queued. The number of frames it took, or -1 (errno).
int UdpPort::send_messages() {
  std::array<mmsghdr, kQueueMax> headers;
  std::array<iovec, kQueueMax> vectors;
  std::array<Control, kQueueMax> controls;
  std::array<std::size_t, kQueueMax> frames;
  unsigned messages = 0;
  for (std::size_t at = first_; at < queued_; at += frames[messages++]) {
    frames[messages] = frames_of_message(at);
    for (std::size_t i = at; i < at + frames[messages]; ++i) vectors[i] = {memory_of(i), queue_[i].bytes};
    headers[messages] = {};
    msghdr& header = headers[messages].msg_hdr;
    header.msg_name = &queue_[at].to->address, header.msg_namelen = sizeof(sockaddr_in);
    header.msg_iov = &vectors[at], header.msg_iovlen = frames[messages];
    if (frames[messages] == 1) continue;
    header.msg_control = controls[messages].bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof(std::uint16_t));
    cmsghdr* cut = CMSG_FIRSTHDR(&header);
    cut->cmsg_level = SOL_UDP, cut->cmsg_type = UDP_SEGMENT, cut->cmsg_len = CMSG_LEN(sizeof(std::uint16_t));
    const auto bytes = static_cast<std::uint16_t>(queue_[at].bytes);
    std::memcpy(CMSG_DATA(cut), &bytes, sizeof bytes);
  }
  const int sent = ::sendmmsg(socket_, headers.data(), messages, 0);
  ++counters_.send_calls;
  int taken = 0;
  for (int i = 0; i < sent; ++i) taken += static_cast<int>(frames[static_cast<std::size_t>(i)]);
  return sent < 0 ? -1 : taken;
}

void UdpPort::send_queued() {
  while (first_ < queued_) {
    const int sent = send_messages(), problem = errno;
    for (int i = 0; i < sent; ++i) queue_[first_++].to->problem = 0;
    if (sent >= 0) counters_.sent += static_cast<std::uint64_t>(sent);
    if (sent > 0 || problem == EINTR) continue;
    if (problem == EAGAIN || problem == ENOBUFS) return;  // Tried again: the queue makes the loop restless.
    if (problem == EIO && cuts_)
      cuts_ = false;  // The device cannot compute checksums, so the kernel does not cut for it.
    else
      not_sent(first_++, problem);
  }
  first_ = queued_ = 0;
}

void UdpPort::not_sent(std::size_t queued, int problem) {
  ++counters_.dropped;
  Peer& to = *queue_[queued].to;
  if (std::exchange(to.problem, problem) == problem || !options_.warn) return;
  std::array<char, INET_ADDRSTRLEN> address{};
  (void)::inet_ntop(AF_INET, &to.address.sin_addr, address.data(), address.size());
  options_.warn("port \"" + options_.name + "\": frames to " + address.data() +
                " are dropped: " + std::strerror(problem) +
                (problem == EMSGSIZE || problem == EINVAL ? "; set the port's mtu to the interface's" : ""));
}

void UdpPort::receive_messages() {
  std::array<mmsghdr, kArrivals> headers{};
  std::array<iovec, kArrivals> vectors{};
  std::array<Control, kArrivals> controls{};
  std::array<sockaddr_in, kArrivals> from{};
  for (std::size_t i = 0; i < kArrivals; ++i) {
    msghdr& header = headers[i].msg_hdr;
    vectors[i] = {in_.data() + i * kArrivalBytes, kArrivalBytes};
    header.msg_name = &from[i], header.msg_namelen = sizeof from[i];
    header.msg_iov = &vectors[i], header.msg_iovlen = 1;
    header.msg_control = controls[i].bytes.data(), header.msg_controllen = controls[i].bytes.size();
  }
  const int got = ::recvmmsg(socket_, headers.data(), kArrivals, MSG_DONTWAIT, nullptr);
  ++counters_.receive_calls;
  for (int k = got - 1; k >= 0; --k) {  // The first one last: it is taken from the back.
    const auto i = static_cast<std::size_t>(k);
    const bool known = std::ranges::any_of(
        peers_, [&](const auto& each) { return each->address.sin_addr.s_addr == from[i].sin_addr.s_addr; });
    const std::size_t bytes = headers[i].msg_len;
    if (!known || bytes == 0 || (headers[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
      ++counters_.foreign;
      continue;
    }
    std::size_t segment = bytes;
    for (cmsghdr* each = CMSG_FIRSTHDR(&headers[i].msg_hdr); each; each = CMSG_NXTHDR(&headers[i].msg_hdr, each)) {
      int size = 0;
      if (each->cmsg_level != SOL_UDP || each->cmsg_type != UDP_GRO) continue;
      std::memcpy(&size, CMSG_DATA(each), sizeof size);
      if (size > 0) segment = static_cast<std::size_t>(size);
    }
    arrivals_.push_back({std::span(in_).subspan(i * kArrivalBytes, bytes), segment});
  }
}

std::size_t UdpPort::receive(std::span<protocol::Arrival> frames) {
  if (arrivals_.empty()) receive_messages();
  std::size_t count = 0;
  while (count < frames.size() && !arrivals_.empty()) {
    Arrival& next = arrivals_.back();
    const std::size_t bytes = std::min(next.segment, next.left.size());
    frames[count++] = protocol::Arrival(next.left.first(bytes));
    next.left = next.left.subspan(bytes);
    if (next.left.empty()) arrivals_.pop_back();
  }
  counters_.received += count;
  return count;
}

}  // namespace slipstream::dataplane
