#include "numa/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace stoker {

size_t EditDistance(std::string_view a, std::string_view b) {
  // Three rows of the dynamic programme: two back for swaps.
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  std::iota(previous.begin(), previous.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before[j - 2] + 1);
      }
    }
    std::swap(before, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string NearestName(std::string_view name, std::span<const std::string> candidates) {
  // An option typed with one dash or three is still the same word.
  const auto word = [](std::string_view text) {
    return text.substr(std::min(text.find_first_not_of('-'), text.size()));
  };
  std::string nearest;
  size_t best = std::max<size_t>(1, word(name).size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word(name), word(candidate));
    // A distance of the whole word is no resemblance.
    if (distance < best && distance < std::max(word(name).size(), word(candidate).size())) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace stoker
