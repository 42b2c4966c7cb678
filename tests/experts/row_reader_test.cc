// Rows read one by one equal the mapped matrix, whatever the device does; errors name the tensor.

#include "experts/row_reader.h"

#include <cstring>
#include <random>
#include <system_error>

#include "tests/support/catch.h"
#include "tests/support/expert_model.h"
#include "tests/support/fake_pager.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TEST_CASE("rows are those of the file, in the order asked for") {
  const test::TempDir dir;
  testing::WriteExpertModel(dir / "model.gguf", {});
  const auto store = WeightStore::Open(dir / "model.gguf");
  const StoredTensor& matrix = store->Get("token_embd.weight");
  const TensorView expected = store->View(matrix);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const std::vector<PagerFile> files = PagerFiles(*store);
    auto pager = std::make_unique<testing::FakePager>(
        files, testing::FakeDevice{.seed = seed, .short_rate = 0.2, .transient_rate = 0.1});
    testing::FakePager* const device = pager.get();
    RowReader reader(*store, std::move(pager), matrix, 600);
    std::mt19937_64 random(seed);
    for (const size_t n : {1U, 7U, 600U}) {
      std::vector<int32_t> rows;
      for (size_t i = 0; i < n; ++i) rows.push_back(static_cast<int32_t>(random() % 101));
      reader.Read(rows);
      bool same = true;
      for (size_t i = 0; i < n; ++i) {
        same = same && std::memcmp(reader.row(static_cast<int64_t>(i)), expected.row(rows[i]),
                                   expected.row_bytes()) == 0;
      }
      CHECK(same);
    }
    device->device().fail_from = 1;
    device->device().fail_count = UINT64_MAX;
    const int32_t row[] = {5};
    CHECK_THROWS_WITH(reader.Read(row), test::HasText("tensor token_embd.weight: read at"));
    device->device().fail_from = 0;
    reader.Read(row);
    CHECK(std::memcmp(reader.row(0), expected.row(5), expected.row_bytes()) == 0);

    device->device().refuse_submit = 4;
    const int32_t left[] = {7, 8, 9, 10};
    CHECK_THROWS_AS(reader.Read(left), std::system_error);
    reader.Read(row);  // not what the call before has left behind
    CHECK(std::memcmp(reader.row(0), expected.row(5), expected.row_bytes()) == 0);
    CHECK(device->pending() == 0);
  }
}

}  // namespace
}  // namespace stoker
