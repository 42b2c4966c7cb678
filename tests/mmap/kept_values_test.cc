#include "mmap/kept_values.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker {
namespace {

TEST_CASE("kept values come back under their key") {
  const test::TempDir directory;
  const std::filesystem::path path = directory.path() / "made" / "values.txt";
  KeptValues values(path, "a drive");
  CHECK_FALSE(values.Find("depth", 1, 100));
  values.Set("depth", 8);
  values.Set("piece", -2);
  CHECK(values.Find("depth", 1, 100) == 8);
  values.Keep();

  KeptValues again(path, "a drive");
  CHECK(again.Find("depth", 1, 100) == 8);
  CHECK(again.Find("piece", -5, 5) == -2);
  CHECK_FALSE(again.Find("depth", 9, 100));
  CHECK_FALSE(again.Find("depth", 1, 7));
  CHECK_FALSE(KeptValues(path, "another drive").Find("depth", 1, 100));
}

TEST_CASE("damaged files have no values, and a place that cannot be written is done without") {
  const test::TempDir directory;
  const std::filesystem::path path = directory.path() / "values.txt";
  for (const std::string& text :
       {std::string(), std::string("key"), std::string("key\n\xff\xfe\ndepth\ndepth x\n"),
        std::string("other\ndepth 8\n"), "key\ndepth " + std::string(400, '9') + "\n"}) {
    test::WriteFile(path, text);
    CHECK_FALSE(KeptValues(path, "key").Find("depth", 1, 100));
  }
  test::WriteFile(path, "key\nnonsense\ndepth 8\n");
  CHECK(KeptValues(path, "key").Find("depth", 1, 100) == 8);
  for (const char* const nowhere : {"/proc/nothing/values.txt", ""}) {
    KeptValues values(nowhere, "key");
    values.Set("depth", 3);
    values.Keep();
    CHECK(values.Find("depth", 1, 100) == 3);
  }
}

}  // namespace
}  // namespace stoker
