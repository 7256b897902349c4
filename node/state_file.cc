#include "node/state_file.h"

#include <concepts>
#include <map>
#include <type_traits>

#include "base/bytes.h"
#include "base/check.h"
#include "base/digest.h"
#include "wal/segment.h"

namespace slipstream::node {
namespace {

constexpr std::string_view kMagic = "SLIPSTAT";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 16;  // magic, version, bytes of fields
constexpr std::size_t kDigestBytes = 16;
constexpr std::uint16_t kMustUnderstand = 0x8000;

// Never renumbered, never used again for something else.
enum class Tag : std::uint16_t {
  kRole = 1,
  kSystem = 2,
  kSegmentSize = 3,
  kTimeline = 4,
  kPageMagic = 5,
  kLogId = 6,
  kLogBegin = 7,
  kScanBegin = 8,
  kHeldEpoch = 9,
  kCountedEnd = 10,
  kFinalEnd = 11,
  kStandbyReady = 12,
  kLogOnly = 13,
  kPromoted = 14,
  kEpochMap = 15,
  kTails = 16,
  kReplacement = 17,
  kNotHeld = 18,
  kPromise = 19,
  kPolicy = 20,
  kPendingPolicy = 21,
  kOwnEpoch = 22,
  kIdentity = 23,
  kMachine = 24,
  kSuperseded = 25,
  kTimelineHistory = 26,
  kUnfenced = 27,
  kMet = 28,
};

// Every field with its tag and the values it holds, in rising order of tags: the one list that writing and reading
// share.
template <class Archive, class AnyState>
void for_each_field(Archive& archive, AnyState& s) {
  archive.field(Tag::kRole, s.role);
  archive.field(Tag::kSystem, s.system.value);
  archive.field(Tag::kSegmentSize, s.segment_size.value);
  archive.field(Tag::kTimeline, s.timeline);
  archive.field(Tag::kPageMagic, s.page_magic);
  archive.field(Tag::kLogId, s.log_id.value);
  archive.field(Tag::kLogBegin, s.log_begin);
  archive.field(Tag::kScanBegin, s.scan_begin, s.scan_begin_is_record);
  archive.field(Tag::kHeldEpoch, s.held_epoch);
  archive.field(Tag::kCountedEnd, s.counted_end);
  archive.field(Tag::kFinalEnd, s.final_end);
  archive.field(Tag::kStandbyReady, s.standby_ready);
  archive.field(Tag::kLogOnly, s.log_only);
  archive.field(Tag::kPromoted, s.promoted);
  archive.field(Tag::kEpochMap, s.epoch_map);
  archive.field(Tag::kTails, s.tails);
  archive.field(Tag::kReplacement, s.replacement);
  archive.field(Tag::kNotHeld, s.not_held);
  archive.field(Tag::kPromise, s.promise);
  archive.field(Tag::kPolicy, s.policy);
  archive.field(Tag::kPendingPolicy, s.pending_policy);
  archive.field(Tag::kOwnEpoch, s.own_epoch);
  archive.field(Tag::kIdentity, s.identity.value);
  archive.field(Tag::kMachine, s.machine);
  archive.field(Tag::kSuperseded, s.superseded);
  archive.field(Tag::kTimelineHistory, s.timeline_history);
  archive.field_if_any(Tag::kUnfenced, s.unfenced);
  archive.field_if_any(Tag::kMet, s.met);
}

// The members of each composite value, in the order of the file.
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, Random128>
{
  a.values(v.high, v.low);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, Epoch>
{
  a.values(v.term, v.incarnation);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, EpochEntry>
{
  a.values(v.epoch, v.begin, v.timeline, v.identity.value);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, Tail>
{
  a.values(v.range, v.epoch);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, ReplacementIntent>
{
  a.values(v.from, v.old_end);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, Promise>
{
  a.values(v.epoch, v.identity.value, v.candidate);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, MemberRecord>
{
  a.values(v.id.value, v.log_id.value, v.name);
}
template <class Archive, class T>
void for_each_member(Archive& a, T& v)
  requires std::same_as<std::remove_const_t<T>, PolicyRecord>
{
  a.values(v.version, v.text, v.members);
}

class Writer {
 public:
  template <class... Values>
  void field(Tag tag, const Values&... of_field) {
    value(static_cast<std::uint16_t>(tag));
    value(kMustUnderstand);
    const std::size_t length_at = out_.size();
    value(std::uint32_t{0});
    values(of_field...);
    put_length(length_at, out_.size() - length_at - sizeof(std::uint32_t));
  }

  // A list that is left out while it is empty, so that older programs read the file; they must not read it otherwise.
  template <class T>
  void field_if_any(Tag tag, const std::vector<T>& items) {
    if (!items.empty()) field(tag, items);
  }

  template <class... Values>
  void values(const Values&... all) {
    (value(all), ...);
  }

  std::vector<std::byte> finish() {
    put_length(kHeaderBytes - sizeof(std::uint32_t), out_.size() - kHeaderBytes);
    const Digest128 digest = xxh3_128(out_);
    values(digest.high, digest.low);
    return std::move(out_);
  }

  void header() {
    bytes(kMagic);
    values(kVersion, std::uint32_t{0});
  }

 private:
  template <std::unsigned_integral T>
  void value(T number) {
    for (std::size_t i = 0; i < sizeof(T); ++i) out_.push_back(static_cast<std::byte>(number >> (8 * i)));
  }
  void value(bool yes) { value(static_cast<std::uint8_t>(yes)); }
  void value(State::Role role) { value(static_cast<std::uint8_t>(role)); }
  void value(Lsn at) { value(at.value); }
  void value(TimelineId timeline) { value(timeline.value); }
  void value(const LsnRange& range) {
    CHECK(range.begin <= range.end);
    values(range.begin, range.end);
  }
  void value(const std::string& text) {
    length(text.size());
    bytes(text);
  }
  template <class T>
  void value(const std::vector<T>& items) {
    length(items.size());
    for (const T& item : items) value(item);
  }
  template <class T>
  void value(const std::optional<T>& item) {
    value(item.has_value());
    if (item) value(*item);
  }
  template <class T>
    requires requires(Writer& writer, const T& v) { for_each_member(writer, v); }
  void value(const T& composite) {
    for_each_member(*this, composite);
  }

  void length(std::size_t count) {
    CHECK(count <= UINT32_MAX);
    value(static_cast<std::uint32_t>(count));
  }
  void bytes(std::string_view text) {
    for (const char c : text) out_.push_back(static_cast<std::byte>(c));
  }
  void put_length(std::size_t at, std::size_t count) {
    CHECK(count <= UINT32_MAX);
    ByteWriter(std::span(out_).subspan(at)).le(static_cast<std::uint32_t>(count));
  }

  std::vector<std::byte> out_;
};

// Reads the fields collected from a file. What is wrong first stays in problem().
class Reader {
 public:
  struct Field {
    std::uint16_t flags = 0;
    std::span<const std::byte> bytes;
  };
  explicit Reader(std::map<std::uint16_t, Field> fields) : fields_(std::move(fields)) {}

  template <class... Values>
  void field(Tag tag, Values&... of_field) {
    const auto number = static_cast<std::uint16_t>(tag);
    const auto found = fields_.find(number);
    if (found == fields_.end()) return fail("field " + std::to_string(number) + " is missing");
    bytes_ = ByteReader(found->second.bytes);
    possible_ = true;
    values(of_field...);
    if (!possible_ || !bytes_.ok() || bytes_.remaining() != 0)
      fail("field " + std::to_string(number) + " holds no possible value");
    fields_.erase(found);
  }

  template <class T>
  void field_if_any(Tag tag, std::vector<T>& items) {
    items.clear();
    if (fields_.contains(static_cast<std::uint16_t>(tag))) field(tag, items);
  }

  template <class... Values>
  void values(Values&... all) {
    (value(all), ...);
  }

  // The fields that nothing asked for: newer than this program.
  void finish() {
    for (const auto& [number, field] : fields_)
      if ((field.flags & kMustUnderstand) != 0)
        fail("field " + std::to_string(number) + " is unknown to this version and must be understood");
  }
  const std::optional<std::string>& problem() const { return problem_; }

 private:
  template <std::unsigned_integral T>
  void value(T& number) {
    number = bytes_.le<T>();
  }
  void value(bool& yes) {
    const auto number = bytes_.le<std::uint8_t>();
    possible_ = possible_ && number <= 1;
    yes = number == 1;
  }
  void value(State::Role& role) {
    role = static_cast<State::Role>(bytes_.le<std::uint8_t>());
    possible_ = possible_ && (role == State::Role::kPrimary || role == State::Role::kReplica);
  }
  void value(Lsn& at) { value(at.value); }
  void value(TimelineId& timeline) { value(timeline.value); }
  void value(LsnRange& range) {
    values(range.begin, range.end);
    possible_ = possible_ && range.begin <= range.end;
  }
  void value(std::string& text) { text = bytes_.text(bytes_.le<std::uint32_t>()); }
  template <class T>
  void value(std::vector<T>& items) {
    const auto count = bytes_.le<std::uint32_t>();
    items.clear();
    for (std::uint32_t i = 0; i < count && bytes_.ok(); ++i) value(items.emplace_back());
  }
  template <class T>
  void value(std::optional<T>& item) {
    bool present = false;
    value(present);
    item.reset();
    if (present) value(item.emplace());
  }
  template <class T>
    requires requires(Reader& reader, T& v) { for_each_member(reader, v); }
  void value(T& composite) {
    for_each_member(*this, composite);
  }

  void fail(std::string what) {
    if (!problem_) problem_ = std::move(what);
  }

  std::map<std::uint16_t, Field> fields_;
  ByteReader bytes_{{}};
  bool possible_ = true;
  std::optional<std::string> problem_;
};

std::unexpected<Error> damaged(std::string_view path, std::string what) {
  return std::unexpected(Error{
      ExitCode::kDirectory, "the state file " + std::move(what), std::string(path),
      "never put back an older copy: it has forgotten promises. Move this node's directory away and set the node up "
      "anew; a replica then starts an empty log, a primary needs a new term"});
}

std::unexpected<Error> too_new(std::string_view path, std::string what) {
  return std::unexpected(Error{ExitCode::kDirectory, "the state file " + std::move(what), std::string(path),
                               "run the newer version of slipstream that wrote it"});
}

// The checked bytes between header and digest.
std::expected<std::span<const std::byte>, Error> unwrap(std::span<const std::byte> file, std::string_view path) {
  ByteReader header(file);
  const std::string_view magic = header.text(kMagic.size());
  const auto version = header.le<std::uint32_t>();
  const auto fields_bytes = header.le<std::uint32_t>();
  if (!header.ok()) return damaged(path, "is cut short: it has " + std::to_string(file.size()) + " bytes");
  if (magic != kMagic) return damaged(path, "is none: it does not begin with " + std::string(kMagic));
  const std::size_t whole = kHeaderBytes + std::size_t{fields_bytes} + kDigestBytes;
  if (file.size() != whole)
    return damaged(path, "has " + std::to_string(file.size()) + " bytes instead of " + std::to_string(whole));
  ByteReader trailer(file.last(kDigestBytes));
  Digest128 digest;
  digest.high = trailer.le<std::uint64_t>();
  digest.low = trailer.le<std::uint64_t>();
  if (digest != xxh3_128(file.first(whole - kDigestBytes)))
    return damaged(path, "is damaged: its checksum does not fit its bytes");
  // Last, so that damage to the version is called damage.
  if (version != kVersion) return too_new(path, "has version " + std::to_string(version));
  return file.subspan(kHeaderBytes, fields_bytes);
}

}  // namespace

std::vector<std::byte> encode(const State& state) {
  Writer writer;
  writer.header();
  for_each_field(writer, state);
  return writer.finish();
}

std::expected<State, Error> decode_state(std::span<const std::byte> file, std::string_view path) {
  const auto content = unwrap(file, path);
  if (!content) return std::unexpected(content.error());

  std::map<std::uint16_t, Reader::Field> fields;
  ByteReader bytes(*content);
  std::uint16_t highest = 0;
  while (bytes.remaining() > 0) {
    const auto tag = bytes.le<std::uint16_t>();
    const auto flags = bytes.le<std::uint16_t>();
    const auto value = bytes.bytes(bytes.le<std::uint32_t>());
    if (!bytes.ok() || tag <= highest || (flags & ~kMustUnderstand) != 0)
      return damaged(path, "was written wrongly after field " + std::to_string(highest));
    fields[tag] = {flags, value};
    highest = tag;
  }

  State state;
  Reader reader(std::move(fields));
  for_each_field(reader, state);
  if (reader.problem()) return damaged(path, "was written wrongly: " + *reader.problem());
  reader.finish();
  if (reader.problem()) return too_new(path, "cannot be used: " + *reader.problem());
  if (state.segment_size.value != 0 && !wal::SegmentLayout::valid_size(state.segment_size))
    return damaged(path,
                   "was written wrongly: no segment can have " + std::to_string(state.segment_size.value) + " bytes");
  return state;
}

}  // namespace slipstream::node
