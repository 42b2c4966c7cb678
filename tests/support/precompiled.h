#pragma once

// What nearly every test includes, parsed once. Not a header to include: a test names what it uses.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
