#pragma once

// JSON as Python's json.dumps(value, ensure_ascii=False) writes it, which is what the tojson filter
// of chat templates gives and what the model saw in training: ", " and ": " between items, key
// order kept, floats as repr() prints them. Pure; thread-safe.

#include <nlohmann/json.hpp>
#include <string>

namespace stoker {

// Throws std::invalid_argument beyond kMaxJsonTextDepth levels of nesting. Integers beyond 64 bits
// were already floats when nlohmann parsed them and are written as such.
std::string PythonJson(const nlohmann::ordered_json& value);

inline constexpr int kMaxJsonTextDepth = 64;

}  // namespace stoker
