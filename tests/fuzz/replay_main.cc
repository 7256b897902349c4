#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr int kChangesOfEach = 300;

// A file's bytes; of a .hex file those that its digits tell, lines with # being comments.
std::vector<std::uint8_t> load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (path.extension() != ".hex") return {std::istreambuf_iterator<char>(file), {}};
  std::string digits;
  for (std::string line; std::getline(file, line);) {
    line.resize(std::min(line.size(), line.find('#')));
    std::ranges::copy_if(line, std::back_inserter(digits), [](unsigned char c) { return std::isxdigit(c) != 0; });
  }
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  return bytes;
}

void change(std::vector<std::uint8_t>& bytes, std::mt19937& random) {
  const auto at = [&] { return static_cast<std::ptrdiff_t>(random() % bytes.size()); };
  for (std::uint32_t i = 0; i <= random() % 4 && !bytes.empty(); ++i) {
    switch (random() % 4) {
      case 0:
        bytes[static_cast<std::size_t>(at())] ^= static_cast<std::uint8_t>(1u << random() % 8);
        break;
      case 1:
        bytes[static_cast<std::size_t>(at())] = static_cast<std::uint8_t>(random());
        break;
      case 2:
        bytes.erase(bytes.begin() + at());
        break;
      default:
        bytes.insert(bytes.begin() + at(), static_cast<std::uint8_t>(random()));
    }
  }
}

}  // namespace

// Gives a fuzz entry the files of the directories named, and seeded changes of each. It fails by crashing, or when
// there is no file.
int main(int count, char** arguments) {
  int files = 0;
  for (int i = 1; i < count; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(arguments[i])) {
      if (!entry.is_regular_file()) continue;
      ++files;
      const std::vector<std::uint8_t> bytes = load(entry.path());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      std::mt19937 random(735);
      for (int n = 0; n < kChangesOfEach; ++n) {
        std::vector<std::uint8_t> changed = bytes;
        change(changed, random);
        LLVMFuzzerTestOneInput(changed.data(), changed.size());
      }
    }
  }
  std::printf("%d files, each with %d changes of it\n", files, kChangesOfEach);
  return files > 0 ? 0 : 1;
}
