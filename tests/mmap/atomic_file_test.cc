// Names that are not plain files: what a link, a device, a pipe and a directory are left as.

#include "mmap/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>

#include "numa/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace stoker::test {
namespace {

namespace fs = std::filesystem;

void WriteThrough(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

TEST_CASE("a symbolic link stays, and the file behind it is replaced") {
  const TempDir links, files;
  const fs::path file = files / "file", link = links / "link", first = links / "first";
  WriteFile(file, "old");
  fs::create_symlink(file, link);
  fs::create_symlink("link", first);
  {
    AtomicFile unfinished(first);
    unfinished.Write("lost");
  }
  CHECK(ReadFile(file) == "old");
  WriteThrough(first, "new");
  CHECK(fs::is_symlink(first));
  CHECK(fs::is_symlink(link));
  CHECK(ReadFile(file) == "new");
  CHECK(std::distance(fs::directory_iterator(files.path()), {}) == 1);
  CHECK(std::distance(fs::directory_iterator(links.path()), {}) == 2);

  fs::create_symlink("later", links / "dangling");
  WriteThrough(links / "dangling", "made");
  CHECK(fs::is_symlink(links / "dangling"));
  CHECK(ReadFile(links / "later") == "made");
  CHECK(AtomicFile::Target(links / "dangling") == links / "later");
}

TEST_CASE("devices and pipes are written to and stay what they are") {
  const TempDir directory;
  const fs::path null = directory / "null", pipe = directory / "pipe";
  fs::create_symlink("/dev/null", null);
  AtomicFile::RequireWritable(null);
  WriteThrough(null, "gone");
  CHECK(fs::is_symlink(null));
  CHECK(fs::is_character_file("/dev/null"));

  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  // Opened first, or the writer would wait for a reader.
  const UniqueFd reader(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  REQUIRE(reader.valid());
  AtomicFile::RequireWritable(pipe);
  WriteThrough(pipe, "through");
  char text[16] = {};
  const ssize_t got = ::read(reader.get(), text, sizeof(text));
  REQUIRE(got == 7);
  CHECK(std::string(text, 7) == "through");
  CHECK(fs::is_fifo(pipe));
  CHECK(std::distance(fs::directory_iterator(directory.path()), {}) == 2);
}

TEST_CASE("what cannot become a file is refused by name, before anything is written") {
  const TempDir directory;
  fs::create_symlink("round", directory / "round");
  const auto message = [](const fs::path& path) -> std::string {
    try {
      AtomicFile file(path);
    } catch (const std::system_error& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(message(directory.path()), HasText(directory.path().native()) && HasText("directory"));
  CHECK_THAT(message(directory / "round"), HasText("round: cannot create"));
  CHECK_THAT(message(directory / "absent/file"), HasText("absent/file: cannot create"));
  CHECK_THAT(message(""), HasText("no name"));
  CHECK_THROWS_AS(AtomicFile::RequireWritable(directory.path()), std::system_error);
  CHECK_THROWS_AS(AtomicFile::RequireWritable(directory / "absent/file"), std::system_error);
  CHECK(std::distance(fs::directory_iterator(directory.path()), {}) == 1);

  WriteFile(directory / "kept", "kept");
  AtomicFile::RequireWritable(directory / "kept");
  AtomicFile::RequireWritable(directory / "new");
  CHECK(ReadFile(directory / "kept") == "kept");
  CHECK_FALSE(fs::exists(directory / "new"));
}

}  // namespace
}  // namespace stoker::test
