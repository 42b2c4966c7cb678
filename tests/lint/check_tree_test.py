#!/usr/bin/env python3
"""check_tree.py finds what it says it finds: each rule meets a tree that breaks only that rule."""

import sys
import tempfile
import unittest
from pathlib import Path

import check_tree

HEADER = "#pragma once\n\n// A thing.\n\nnamespace stoker {\n}  // namespace stoker\n"


def findings(rule, files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return list(rule(root))


class CheckTree(unittest.TestCase):
    def expect(self, rule, bad, good):
        self.assertEqual(findings(rule, good), [])
        self.assertEqual(len(findings(rule, bad)), 1, findings(rule, bad))

    def test_include_direction(self):
        tree = {"numa/a.h": HEADER, "mmap/b.h": HEADER}
        self.expect(check_tree.check_include_direction,
                    {**tree, "numa/c.cc": '#include "mmap/b.h"\n'},
                    {**tree, "mmap/c.cc": '#include "numa/a.h"\n#include "mmap/b.h"\n'})

    def test_tests_are_seen_by_none(self):
        tree = {"numa/a.h": HEADER, "tests/support/s.h": HEADER}
        self.expect(check_tree.check_include_direction,
                    {**tree, "numa/c.cc": '#include "tests/support/s.h"\n'},
                    {**tree, "tests/numa/c.cc": '#include "tests/support/s.h"\n'})

    def test_include_paths_start_at_the_root(self):
        self.expect(check_tree.check_include_direction,
                    {"numa/a.h": HEADER, "numa/c.cc": '#include "a.h"\n'},
                    {"numa/a.h": HEADER, "numa/c.cc": '#include "numa/a.h"\n'})

    def test_wrapper_rooms(self):
        for header, home, stranger in [
                ("hwloc.h", "numa/a.cc", "runtime/a.cc"),
                ("liburing.h", "experts/a.cc", "mmap/a.cc"),
                ("oneapi/dnnl/dnnl.hpp", "runtime/matmul/a.cc", "runtime/a.cc"),
                ("dnnl.hpp", "runtime/matmul/a.cc", "experts/a.cc"),
                ("simdjson.h", "mmap/a.cc", "numa/a.cc"),
                ("catch2/catch.hpp", "tests/support/catch.h", "tests/numa/a.cc")]:
            with self.subTest(header=header):
                self.expect(check_tree.check_wrapper_rooms,
                            {stranger: f"#include <{header}>\n"}, {home: f"#include <{header}>\n"})

    def test_headers_open_well(self):
        self.expect(check_tree.check_headers_open_well,
                    {"numa/a.h": "#pragma once\nint x;\n"}, {"numa/a.h": HEADER})
        self.expect(check_tree.check_headers_open_well,
                    {"numa/a.h": "// A thing.\nint x;\n"}, {"numa/a.h": HEADER})

    def test_readmes(self):
        tree = {f"{room}/README.md": "It.\n" for room in check_tree.CODE_DIRS}
        self.expect(check_tree.check_readmes,
                    {**tree, "runtime/text/a.h": HEADER},
                    {**tree, "runtime/text/a.h": HEADER, "runtime/text/README.md": "It.\n"})

    def test_length(self):
        self.expect(check_tree.check_length,
                    {"numa/a.cc": "int x;\n" * 601}, {"numa/a.cc": "int x;\n" * 600})

    def test_columns(self):
        self.expect(check_tree.check_columns,
                    {"numa/a.cc": "x" * 101 + "\n"}, {"numa/a.cc": "x" * 100 + "\n"})

    def test_namespaces(self):
        nested = "namespace outside {\nclass Thing;\n}\n"
        nested += "namespace stoker {\nnamespace avx2 {\n}\n}\nnamespace stoker::scalar {\n}\n"
        self.expect(check_tree.check_namespaces,
                    {"numa/a.cc": "namespace other {\n}\n"},
                    {"numa/a.cc": nested + "namespace fs = std::filesystem;\nnamespace {\n}\n"})

    def test_regex(self):
        self.expect(check_tree.check_forbidden,
                    {"numa/a.cc": "std::regex r;\n"}, {"numa/a.cc": "// Not std::regex.\n"})

    def test_forbidden_words(self):
        self.expect(check_tree.check_forbidden,
                    {"numa/a.cc": "// TO" "DO: later\n"}, {"numa/a.cc": "// Done.\n"})

    def test_sources_listed(self):
        self.expect(check_tree.check_sources_listed,
                    {"numa/a.cc": "", "numa/CMakeLists.txt": "x(b.cc)"},
                    {"numa/a.cc": "", "numa/CMakeLists.txt": "x(a.cc)"})
        self.expect(check_tree.check_sources_listed,
                    {"tests/b.cc": "", "tests/CMakeLists.txt": "x(${n}_test.cc)"},
                    {"tests/b_test.cc": "", "numa/c.cc": "", "numa/CMakeLists.txt": "x(c.cc)",
                     "tests/CMakeLists.txt": "x(${n}_test.cc ../numa/c.cc)"})

    def test_headers_alone(self):
        compiler = sys.argv[1]

        def rule(root):
            return check_tree.check_headers_alone(root, compiler)

        self.expect(rule,
                    {"numa/a.h": "#pragma once\nstd::string Name();\n"},
                    {"numa/a.h": "#pragma once\n#include <string>\nstd::string Name();\n"})
        # The build itself refuses the header when a source includes it first, and only then.
        broken = "#pragma once\nstd::string Name();\n"
        self.expect(rule,
                    {"numa/a.h": broken, "numa/b.cc": '#include <string>\n#include "numa/a.h"\n'},
                    {"numa/a.h": broken, "numa/b.cc": '#include "numa/a.h"\n'})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
