#include "node/state_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "base/digest.h"

namespace slipstream::node {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kDigestBytes = 16;
constexpr std::uint16_t kTagBeyondAll = 0x7000;

State replica_state() {
  State s;
  s.role = State::Role::kReplica;
  s.system = SystemId{0x6789abcdef012345};
  s.segment_size = ByteCount{16 << 20};
  s.timeline = TimelineId{2};
  s.page_magic = 0xd110;
  s.log_id = LogId{{0x1111111111111111, 0x2222222222222222}};
  s.log_begin = Lsn{0x1000000};
  s.scan_begin = Lsn{0x1a00028};
  s.scan_begin_is_record = true;
  s.held_epoch = Epoch{3, 17};
  s.counted_end = Lsn{0x1b00000};
  s.final_end = Lsn{0x1a80000};
  s.standby_ready = true;
  s.epoch_map = {{Epoch{1, 4}, Lsn{0x1000000}, TimelineId{1}, Identity{{5, 6}}},
                 {Epoch{3, 17}, Lsn{0x1900000}, TimelineId{2}, Identity{{7, 8}}}};
  s.tails = {{LsnRange{Lsn{0x1b00000}, Lsn{0x1b00100}}, Epoch{1, 4}}};
  s.replacement = ReplacementIntent{Lsn{0x1b00010}, Lsn{0x1b00100}};
  s.not_held = {LsnRange{Lsn{0x1100000}, Lsn{0x1100200}}};
  s.promise = Promise{Epoch{4, 0}, Identity{}, "oslo"};
  s.policy = PolicyRecord{
      9, "ANY 1 (oslo, lima)", {{"oslo", NodeId{2}, LogId{{9, 10}}}, {"lima", NodeId{3}, LogId{{11, 12}}}}};
  return s;
}

State promoted_state() {
  State s = replica_state();
  s.promoted = true;
  s.unfenced = {{"lima", NodeId{3}, LogId{{11, 12}}}};
  return s;
}

State primary_state() {
  State s;
  s.role = State::Role::kPrimary;
  s.system = SystemId{0x6789abcdef012345};
  s.segment_size = ByteCount{64 << 20};
  s.timeline = TimelineId{2};
  s.promise = Promise{Epoch{3, 17}, Identity{{7, 8}}, ""};
  s.policy = PolicyRecord{9, "oslo", {{"oslo", NodeId{2}, LogId{{9, 10}}}}};
  s.pending_policy = PolicyRecord{10, "lima", {{"lima", NodeId{3}, LogId{{11, 12}}}}};
  s.own_epoch = Epoch{3, 17};
  s.identity = Identity{{7, 8}};
  s.machine = "c0ffee/131074";
  s.superseded = true;
  s.timeline_history = "1\t0/1900000\tno recovery target specified\n";
  return s;
}

State primary_that_met_state() {
  State s = primary_state();
  s.met = {{"oslo", NodeId{2}, LogId{{9, 10}}}, {"rome", NodeId{4}, LogId{}}};
  return s;
}

void put(Bytes& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}
std::uint64_t number_at(const Bytes& bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[at + i]);
  return value;
}

// A file with a right length and checksum around any fields.
Bytes sealed(const Bytes& fields, std::uint32_t version = 1) {
  Bytes out;
  for (const char c : std::string_view("SLIPSTAT")) out.push_back(static_cast<std::byte>(c));
  put(out, version, 4);
  put(out, fields.size(), 4);
  out.insert(out.end(), fields.begin(), fields.end());
  const Digest128 digest = xxh3_128(out);
  put(out, digest.high, 8);
  put(out, digest.low, 8);
  return out;
}

struct RawField {
  std::uint16_t tag = 0;
  std::uint16_t flags = 0;
  Bytes value;
};

std::vector<RawField> fields_of(const Bytes& file) {
  std::vector<RawField> out;
  for (std::size_t at = kHeaderBytes; at + kDigestBytes < file.size();) {
    const auto length = static_cast<std::ptrdiff_t>(number_at(file, at + 4, 4));
    const auto value = file.begin() + static_cast<std::ptrdiff_t>(at) + 8;
    out.push_back({static_cast<std::uint16_t>(number_at(file, at, 2)),
                   static_cast<std::uint16_t>(number_at(file, at + 2, 2)), Bytes(value, value + length)});
    at += 8 + static_cast<std::size_t>(length);
  }
  return out;
}

Bytes joined(const std::vector<RawField>& fields) {
  Bytes out;
  for (const RawField& field : fields) {
    put(out, field.tag, 2);
    put(out, field.flags, 2);
    put(out, field.value.size(), 4);
    out.insert(out.end(), field.value.begin(), field.value.end());
  }
  return out;
}

void expect_refused(const Bytes& file, std::string_view why) {
  const auto state = decode_state(file, "dir/state");
  ASSERT_FALSE(state.has_value()) << why;
  EXPECT_EQ(state.error().code, ExitCode::kDirectory);
  EXPECT_EQ(state.error().where, "dir/state");
  EXPECT_NE(state.error().what.find(why), std::string::npos) << state.error().what << " does not say: " << why;
  EXPECT_FALSE(state.error().remedy.empty());
}

// A golden file is bytes in hexadecimal; '#' begins a comment.
std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(SLIPSTREAM_SOURCE_DIR) / "tests" / "golden" / "state" / (name + ".hex");
}

Bytes read_golden(const std::string& name) {
  std::ifstream in(golden_path(name));
  Bytes out;
  for (std::string line, byte; std::getline(in, line);)
    for (std::istringstream words(line.substr(0, line.find('#'))); words >> byte;)
      out.push_back(static_cast<std::byte>(std::stoul(byte, nullptr, 16)));
  return out;
}

void write_golden(const std::string& name, const Bytes& file) {
  std::ofstream out(golden_path(name));
  std::size_t at = 0;
  const auto line = [&](std::size_t bytes, const std::string& comment) {
    static constexpr char kDigits[] = "0123456789abcdef";
    for (const std::size_t end = at + bytes; at < end; ++at) {
      const auto value = std::to_integer<unsigned>(file[at]);
      out << kDigits[value >> 4] << kDigits[value & 15] << ' ';
    }
    out << "# " << comment << "\n";
  };
  line(8, "magic");
  line(4, "version");
  line(4, "bytes of fields");
  for (const RawField& field : fields_of(file)) {
    line(8, "field " + std::to_string(field.tag) + ": tag, flags, length");
    line(field.value.size(), "value");
  }
  line(kDigestBytes, "checksum");
}

struct GoldenCase {
  const char* name;
  State (*make)();
};

class GoldenState : public testing::TestWithParam<GoldenCase> {};

// SLIPSTREAM_REWRITE_GOLDEN=1 writes the files anew: for a change of format that was meant.
TEST_P(GoldenState, HasTheCommittedBytesAndIsReadFromThem) {
  const auto [name, make] = GetParam();
  const Bytes encoded = encode(make());
  if (std::getenv("SLIPSTREAM_REWRITE_GOLDEN")) write_golden(name, encoded);
  const Bytes golden = read_golden(name);
  ASSERT_FALSE(golden.empty()) << golden_path(name);
  EXPECT_EQ(encoded, golden);
  const auto state = decode_state(golden, "state");
  ASSERT_TRUE(state.has_value()) << state.error().message();
  EXPECT_EQ(*state, make());
}

INSTANTIATE_TEST_SUITE_P(, GoldenState,
                         testing::Values(GoldenCase{"replica_v1", replica_state},
                                         GoldenCase{"promoted_v1", promoted_state},
                                         GoldenCase{"primary_v1", primary_state},
                                         GoldenCase{"primary_that_met_v1", primary_that_met_state},
                                         GoldenCase{"fresh_v1", [] { return State{}; }}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(StateFile, RefusesEveryPrefixOfItself) {
  for (const State& state : {promoted_state(), primary_state()}) {
    const Bytes file = encode(state);
    for (std::size_t size = 0; size < file.size(); ++size)
      ASSERT_FALSE(decode_state(std::span(file).first(size), "state").has_value()) << size << " bytes";
  }
}

TEST(StateFile, RefusesEverySingleFlippedBit) {
  for (const State& state : {promoted_state(), primary_state()}) {
    Bytes file = encode(state);
    for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
      const std::byte mask{static_cast<unsigned char>(1u << (bit % 8))};
      file[bit / 8] ^= mask;
      ASSERT_FALSE(decode_state(file, "state").has_value()) << "bit " << bit;
      file[bit / 8] ^= mask;
    }
    ASSERT_TRUE(decode_state(file, "state").has_value());
  }
}

TEST(StateFile, SaysWhatIsWrongWithDamageAndWhatToDo) {
  Bytes file = encode(replica_state());
  expect_refused({}, "cut short");
  expect_refused(Bytes(file.begin(), file.begin() + 12), "cut short: it has 12 bytes");
  expect_refused(Bytes(file.begin(), file.end() - 1), "bytes instead of " + std::to_string(file.size()));
  Bytes longer = file;
  longer.push_back(std::byte{0});
  expect_refused(longer, "bytes instead of " + std::to_string(file.size()));
  Bytes flipped = file;
  flipped[40] ^= std::byte{1};
  expect_refused(flipped, "checksum");
  Bytes other = file;
  other[0] = std::byte{'X'};
  expect_refused(other, "does not begin with SLIPSTAT");
}

TEST(StateFile, CallsANewerVersionByItsNumberAndADamagedOneDamage) {
  const Bytes file = encode(replica_state());
  expect_refused(sealed(joined(fields_of(file)), 2), "version 2");
  Bytes damaged = file;
  damaged[8] = std::byte{2};
  expect_refused(damaged, "checksum");
}

TEST(StateFile, SkipsAnUnknownFieldAndRefusesOneThatMustBeUnderstood) {
  auto fields = fields_of(encode(replica_state()));
  fields.push_back({kTagBeyondAll, 0, Bytes(5, std::byte{7})});
  const auto state = decode_state(sealed(joined(fields)), "state");
  ASSERT_TRUE(state.has_value()) << state.error().message();
  EXPECT_EQ(*state, replica_state());
  fields.back().flags = 0x8000;
  expect_refused(sealed(joined(fields)), "field 28672 is unknown to this version and must be understood");
}

TEST(StateFile, LeavesTheUnfencedMembersOutWhileThereAreNone) {
  EXPECT_EQ(fields_of(encode(replica_state())).back().tag, 26);
  const RawField last = fields_of(encode(promoted_state())).back();
  EXPECT_EQ(last.tag, 27);
  EXPECT_EQ(last.flags, 0x8000) << "a program that does not know it would forget that the brain may be split";
}

TEST(StateFile, LeavesTheReplicasMetOutWhileThereAreNone) {
  EXPECT_EQ(fields_of(encode(primary_state())).back().tag, 26);
  const RawField last = fields_of(encode(primary_that_met_state())).back();
  EXPECT_EQ(last.tag, 28);
  EXPECT_EQ(last.flags, 0x8000) << "a program that does not know it would drop it";
}

TEST(StateFile, RefusesFieldsThatAreMissingRepeatedOutOfOrderOrCarryReservedFlags) {
  const auto fields = fields_of(encode(replica_state()));
  ASSERT_EQ(fields.size(), 26u);
  for (std::size_t i = 0; i < fields.size(); ++i) {
    ASSERT_EQ(fields[i].flags, 0x8000) << "each field of the first version must be understood";
    auto missing = fields;
    missing.erase(missing.begin() + static_cast<std::ptrdiff_t>(i));
    expect_refused(sealed(joined(missing)), "field " + std::to_string(fields[i].tag) + " is missing");
    auto repeated = fields;
    repeated.insert(repeated.begin() + static_cast<std::ptrdiff_t>(i), fields[i]);
    expect_refused(sealed(joined(repeated)), "was written wrongly after field");
    auto reserved = fields;
    reserved[i].flags |= 1;
    expect_refused(sealed(joined(reserved)), "was written wrongly after field");
  }
  auto swapped = fields;
  std::swap(swapped[3], swapped[4]);
  expect_refused(sealed(joined(swapped)), "was written wrongly after field");
}

TEST(StateFile, RefusesAFieldThatIsTooShortTooLongOrReachesBeyondTheFile) {
  const auto fields = fields_of(encode(replica_state()));
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::string number = "field " + std::to_string(fields[i].tag) + " holds no possible value";
    auto longer = fields;
    longer[i].value.push_back(std::byte{0});
    expect_refused(sealed(joined(longer)), number);
    auto shorter = fields;
    shorter[i].value.pop_back();
    expect_refused(sealed(joined(shorter)), number);
  }
  Bytes beyond = joined(fields);
  put(beyond, kTagBeyondAll, 2);
  put(beyond, 0, 2);
  put(beyond, 1, 4);
  expect_refused(sealed(beyond), "was written wrongly after field 26");
}

TEST(StateFile, RefusesValuesThatCannotBe) {
  const auto fields = fields_of(encode(replica_state()));
  const auto with = [&](std::uint16_t tag, std::uint64_t value, int bytes) {
    auto changed = fields;
    for (RawField& field : changed) {
      if (field.tag != tag) continue;
      field.value.clear();
      put(field.value, value, bytes);
    }
    return sealed(joined(changed));
  };
  expect_refused(with(1, 0, 1), "field 1 holds");  // No such role.
  expect_refused(with(1, 3, 1), "field 1 holds");
  expect_refused(with(12, 2, 1), "field 12 holds");     // Neither yes nor no.
  expect_refused(with(3, 3 << 20, 8), "segment");       // No segment's size.
  expect_refused(with(15, 0xffffffff, 4), "field 15");  // Four billion epochs in four bytes.
  auto backwards = fields;
  for (RawField& field : backwards) {
    if (field.tag != 18) continue;
    field.value.clear();
    put(field.value, 1, 4);
    put(field.value, 200, 8);
    put(field.value, 100, 8);
  }
  expect_refused(sealed(joined(backwards)), "field 18 holds");
}

class RandomStates {
 public:
  explicit RandomStates(std::uint64_t seed) : random_(seed) {}

  State next() {
    State s;
    s.role = yes() ? State::Role::kPrimary : State::Role::kReplica;
    s.system.value = random_();
    s.segment_size.value = yes() ? 0 : std::uint64_t{1} << (20 + random_() % 11);
    s.timeline = timeline();
    s.page_magic = random_();
    s.log_id.value = bits();
    s.log_begin = lsn();
    s.scan_begin = lsn();
    s.scan_begin_is_record = yes();
    s.held_epoch = epoch();
    s.counted_end = lsn();
    s.final_end = lsn();
    s.standby_ready = yes();
    s.log_only = yes();
    s.promoted = yes();
    for (auto n = few(); n > 0; --n) s.epoch_map.push_back({epoch(), lsn(), timeline(), Identity{bits()}});
    for (auto n = few(); n > 0; --n) s.tails.push_back({range(), epoch()});
    if (yes()) s.replacement = ReplacementIntent{lsn(), lsn()};
    for (auto n = few(); n > 0; --n) s.not_held.push_back(range());
    s.promise = Promise{epoch(), Identity{bits()}, text()};
    s.policy = policy();
    if (yes()) s.pending_policy = policy();
    s.own_epoch = epoch();
    s.identity.value = bits();
    s.machine = text();
    s.superseded = yes();
    s.timeline_history = text();
    s.unfenced = policy().members;
    s.met = policy().members;
    return s;
  }

 private:
  bool yes() { return random_() % 2 == 0; }
  std::uint64_t few() { return random_() % 4; }
  Lsn lsn() { return Lsn{random_()}; }
  TimelineId timeline() { return TimelineId{static_cast<std::uint32_t>(random_())}; }
  Epoch epoch() { return {static_cast<std::uint32_t>(random_()), static_cast<std::uint32_t>(random_())}; }
  Random128 bits() { return {random_(), random_()}; }
  LsnRange range() {
    const Lsn a = lsn(), b = lsn();
    return {std::min(a, b), std::max(a, b)};
  }
  std::string text() {
    std::string out;
    for (auto n = random_() % 40; n > 0; --n) out += static_cast<char>(random_());
    return out;
  }
  PolicyRecord policy() {
    PolicyRecord out{random_(), text(), {}};
    for (auto n = few(); n > 0; --n)
      out.members.push_back({text(), NodeId{static_cast<std::uint16_t>(random_())}, LogId{bits()}});
    return out;
  }

  std::mt19937_64 random_;
};

TEST(StateFile, ReadsBackEveryRandomState) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const State state = RandomStates(seed).next();
    const auto read = decode_state(encode(state), "state");
    ASSERT_TRUE(read.has_value()) << "seed " << seed << ": " << read.error().message();
    ASSERT_EQ(*read, state) << "seed " << seed;
  }
}

TEST(StateFileDeathTest, ChecksThatNoRangeRunsBackwards) {
  State state;
  state.not_held = {LsnRange{Lsn{2}, Lsn{1}}};
  EXPECT_DEATH((void)encode(state), "CHECK");
}

}  // namespace
}  // namespace slipstream::node
