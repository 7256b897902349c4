// One end of a link, as a process of its own (DPDK allows one environment a process), for the tests and the
// measurements of the data plane.
//
//   dataplane_peer mode=echo|ping|flood|listen name=TEXT address=IPV4[/BITS] peer=IPV4 [vdev=STRING] [pci=ADDRESS]
//   [mtu=N] [gateway=IPV4] [vlan=N] [bytes=N,N,...] [count=N]
//                  [idle=adaptive|spin] [hugepages=auto|on|off] [pause_us=N] [offloads=none] [shared=yes]
//
// echo sends back what it gets; ping sends numbered frames one at a time, checks what comes back and prints round
// trips; flood sends as much as there is room for; listen only counts. Says on standard output: "ready", "up" and
// "down" with the link, "stalled", "ping ok ..." at the end of ping, and counters every 100 ms ("got N sent N foreign N
// dropped N stalls N"). With deaf=yes it takes nothing off the device, and sends what there is room for, until that has
// stalled. Where address and peer are equal it is its own peer, over a device that loops back. With shared=yes each
// payload is sent as two peers' (both are that one).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "dataplane/dpdk_port.h"
#include "dataplane/eal.h"
#include "dataplane/idle.h"

namespace slipstream::dataplane {
namespace {

std::atomic<bool> stopped{false};

class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      const auto at = argument.find('=');
      if (at != std::string_view::npos) values_.emplace(argument.substr(0, at), argument.substr(at + 1));
    }
  }
  std::string text(const std::string& key, const std::string& otherwise = "") const {
    const auto it = values_.find(key);
    return it == values_.end() ? otherwise : it->second;
  }
  std::uint64_t number(const std::string& key, std::uint64_t otherwise) const {
    const std::string value = text(key);
    return value.empty() ? otherwise : std::strtoull(value.c_str(), nullptr, 10);
  }
  std::vector<std::size_t> numbers(const std::string& key) const {
    std::vector<std::size_t> out;
    const std::string value = text(key);
    for (std::size_t at = 0; at < value.size(); at = std::min(value.find(',', at), value.size() - 1) + 1)
      out.push_back(std::strtoull(value.c_str() + at, nullptr, 10));
    return out;
  }

 private:
  std::map<std::string, std::string> values_;
};

void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

constexpr NodeId kPeer{2}, kTwin{3};  // The same under another number.

class Peer {
 public:
  Peer(const Arguments& arguments, node::Port& port, const DpdkPort& device)
      : arguments_(arguments), port_(port), device_(device) {
    mode_ = arguments.text("mode", "echo");
    sizes_ = arguments.numbers("bytes");
    if (sizes_.empty()) sizes_.push_back(64);
    for (std::size_t& size : sizes_)
      size = std::clamp<std::size_t>(size, sizeof(std::uint64_t), port.frame_bytes_max(kPeer));
    payload_.resize(1 << 16);
    for (std::size_t i = 0; i < payload_.size(); ++i) payload_[i] = static_cast<std::byte>(i * 7 + 3);
    count_ = arguments.number("count", 1000);
    deaf_ = arguments.text("deaf") == "yes";
    shared_ = arguments.text("shared") == "yes";
  }

  void tell() const {
    const node::PortView view = device_.views().front();
    say(fmt::format("got {} sent {} foreign {} dropped {} stalls {}", view.received, view.sent, view.foreign,
                    view.dropped, view.stalls));
  }

  bool step(Instant now) {
    const bool up = port_.room(kPeer) > 0;
    if (up != up_) say((up_ = up) ? "up" : "down");
    if (deaf_ && device_.views().front().stalls > 0) say("stalled"), deaf_ = false;
    const std::size_t got = port_.receive(deaf_ ? std::span<protocol::Arrival>() : std::span(frames_));
    for (std::size_t i = 0; i < got; ++i) take(frames_[i].bytes(), now);
    if (mode_ == "flood" || deaf_)
      for (std::size_t room = std::min<std::size_t>(port_.room(kPeer), 64); room > 0; --room) send_number(flooded_++);
    if (mode_ == "ping" && !deaf_) ping(now);
    port_.flush();
    if (now - told_ > milliseconds(100)) tell(), told_ = now;
    return got > 0 || mode_ == "flood";
  }

 private:
  static constexpr std::uint64_t kFlooded = std::uint64_t{1} << 32;  // Numbers that no ping has.

  void send_number(std::uint64_t number) {
    const std::size_t bytes = sizes_[number % sizes_.size()];
    node::OutFrame frame;
    std::memcpy(frame.head.data(), &number, sizeof number);
    frame.head_bytes = sizeof number;
    frame.payload = std::span(payload_).subspan(number % 256, bytes - sizeof number);
    if (shared_) frame.shared_payload = number + 1;
    port_.send(kPeer, frame);
    if (shared_) port_.send(kTwin, frame);
  }

  bool is_intact(std::span<const std::byte> frame) const {
    std::uint64_t number = 0;
    if (frame.size() < sizeof number) return false;
    std::memcpy(&number, frame.data(), sizeof number);
    const auto expected = std::span(payload_).subspan(number % 256, frame.size() - sizeof number);
    return frame.size() == sizes_[number % sizes_.size()] &&
           std::memcmp(frame.data() + sizeof number, expected.data(), expected.size()) == 0;
  }

  void take(std::span<const std::byte> frame, Instant now) {
    if (mode_ == "echo") {
      node::OutFrame back;
      back.head_bytes = 0;
      back.payload = frame;
      port_.send(kPeer, back);
    }
    if (mode_ != "ping") return;
    std::uint64_t number = 0;
    if (frame.size() >= sizeof number) std::memcpy(&number, frame.data(), sizeof number);
    if (!is_intact(frame)) {
      say(fmt::format("damaged: {} bytes, number {}", frame.size(), number));
      stopped = true;
    }
    if (number != next_ || !waiting_) return;
    waiting_ = false;
    round_trips_.add(monotonic_now() - sent_);
    sent_ = now;
    if (++next_ < count_) return;
    say(fmt::format("chained {}", device_.views().front().chained));
    say(fmt::format("ping ok {} p50 {} ns p90 {} ns p99 {} ns max {} us resent {}", count_,
                    round_trips_.quantile(0.5).ns, round_trips_.quantile(0.9).ns, round_trips_.quantile(0.99).ns,
                    round_trips_.max().ns / 1000, resent_));
    next_ = 0;
    round_trips_.clear();
    if (arguments_.text("again") != "yes") stopped = true;
  }

  void ping(Instant now) {
    if (!up_) return;
    if (waiting_ && now - sent_ < milliseconds(200)) return;
    if (!waiting_ && now - sent_ < microseconds(static_cast<std::int64_t>(arguments_.number("pause_us", 0)))) return;
    resent_ += waiting_;
    waiting_ = true;
    send_number(next_);
    sent_ = monotonic_now();
  }

  const Arguments& arguments_;
  node::Port& port_;
  const DpdkPort& device_;
  std::string mode_;
  std::vector<std::size_t> sizes_;
  std::vector<std::byte> payload_;
  std::array<protocol::Arrival, 64> frames_;
  std::uint64_t count_ = 0, next_ = 0, resent_ = 0;
  std::uint64_t flooded_ = kFlooded;
  bool up_ = false, waiting_ = false, deaf_ = false, shared_ = false;
  Instant sent_{}, told_{};
  Histogram round_trips_;
};

int run(const Arguments& arguments) {
  EalOptions options;
  options.file_prefix = "slipstream-test-" + arguments.text("name", "peer");
  options.memory_mb = arguments.number("mtu", 1500) > 2000 ? 128 : 64;
  options.hugepages = arguments.text("hugepages") == "on"     ? Hugepages::kOn
                      : arguments.text("hugepages") == "auto" ? Hugepages::kAuto
                                                              : Hugepages::kOff;
  const std::string vdev = arguments.text("vdev"), pci = arguments.text("pci");
  if (!vdev.empty()) options.vdevs.push_back(vdev);
  if (!pci.empty()) options.pci.push_back(pci);
  const auto fail = [](const Error& error) {
    say("error " + error.message());
    return static_cast<int>(error.code);
  };
  const auto info = start_eal(options);
  if (!info) return fail(info.error());
  if (!info->warning.empty()) say("warning " + info->warning);

  DeviceConfig device;
  device.name = "to_peer";
  device.device = vdev.empty() ? pci : vdev.substr(0, vdev.find(','));
  device.mtu = static_cast<std::uint32_t>(arguments.number("mtu", 1500));
  device.address = arguments.text("address");
  device.gateway = arguments.text("gateway");
  device.vlan = static_cast<std::uint16_t>(arguments.number("vlan", 0));
  device.warn = [](const std::string& what) { say("warning " + what); };
  device.may_sleep = arguments.text("idle") != "spin";
  device.chained_min = 64;
  device.use_offloads = arguments.text("offloads") != "none";
  PeerConfig peer;
  peer.id = kPeer, peer.address = arguments.text("peer"), peer.via = device.name;
  PeerConfig twin = peer;
  twin.id = kTwin;
  auto port = DpdkPort::open({device}, {peer, twin});
  if (!port) return fail(port.error());
  say("ready");
  say(fmt::format("offloads {}", fmt::join((*port)->views().front().offloads, " ")));

  Peer self(arguments, **port, **port);
  Waker waker;
  for (const int fd : (*port)->wake_fds()) waker.watch(fd);
  IdleStrategy idle(!device.may_sleep  ? IdleStrategy::Mode::kSpin
                    : (*port)->wakes() ? IdleStrategy::Mode::kWoken
                                       : IdleStrategy::Mode::kPolled);
  prepare_data_thread(-1);
  timespec before{}, after{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  const Instant begin = monotonic_now();
  run_loop([&](Instant now) { return self.step(now); },
           [&](Instant now) { return (*port)->is_restless() ? now : kNever; }, idle, waker, stopped);
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  const std::int64_t cpu = (after.tv_sec - before.tv_sec) * 1'000'000'000 + after.tv_nsec - before.tv_nsec;
  self.tell();
  say(fmt::format("ended, {:.1f} % of a core",
                  100.0 * static_cast<double>(cpu) / static_cast<double>((monotonic_now() - begin).ns)));
  port->reset();
  stop_eal();
  return 0;
}

}  // namespace
}  // namespace slipstream::dataplane

int main(int argc, char** argv) {
  std::signal(SIGTERM, [](int) { slipstream::dataplane::stopped = true; });
  std::signal(SIGINT, [](int) { slipstream::dataplane::stopped = true; });
  return slipstream::dataplane::run(slipstream::dataplane::Arguments(argc, argv));
}
