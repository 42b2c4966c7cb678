#!/usr/bin/env python3
"""Holds the rules of the tree that a compiler does not: see the list RULES at the end.

    check_tree.py ROOT             all rules; exits 1 and lists every finding when one is broken
    check_tree.py ROOT --headers CXX   only: each header that no source includes first compiles
                                       alone, with CXX and its flags
"""

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

ROOMS = ["numa", "mmap", "experts", "runtime", "bench"]  # each may include those before it
CODE_DIRS = ROOMS + ["tests"]
TEXT_DIRS = CODE_DIRS + ["cmake", "scripts", "docs", ".ci"]
MAX_LINES = 600

# Compiled after a precompiled header: that a source compiles says nothing of its own header.
PRECOMPILED = ["tests/"]

# Where an outside library may be included. A value ending in "/" is a folder, others are files.
WRAPPERS = {
    r"hwloc(/.*)?\.h": ["numa/"],
    r"numa(if)?\.h": ["numa/"],
    r"liburing(/.*)?\.h": ["experts/"],
    r"zstd\.h": ["experts/"],
    r"(oneapi/dnnl/)?dnnl.*": ["runtime/matmul/"],
    r"pcre2\.h": ["runtime/"],
    r"CLI/.*": ["runtime/cli/", "tests/runtime/cli/"],
    r"(histedit|editline/readline)\.h": ["runtime/cli/"],
    r"simdjson.*": ["mmap/", "runtime/text/", "runtime/tokenizer/"],
    r"nlohmann/.*": [
        "mmap/", "experts/", "runtime/text/", "runtime/tokenizer/", "runtime/cli/",
    ],
    r"benchmark/.*": ["bench/"],
    r"catch2/.*": ["tests/support/catch.h"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
NAMESPACE = re.compile(r"^\s*(?:inline\s+)?namespace\s+([A-Za-z_][\w:]*)\s*(?:\{|=|$)", re.M)
FORBIDDEN_WORDS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")


def files_under(root, folders, suffixes=None):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            hidden = any(part == "__pycache__" for part in path.parts)
            if path.is_file() and not hidden and (suffixes is None or path.suffix in suffixes):
                yield path


def code_files(root):
    return files_under(root, CODE_DIRS, {".h", ".cc"})


def without_comments(text):
    """The text with comments blanked and line numbers kept; string contents stay."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.S)

    def blank(match):
        found = match.group(0)
        return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)

    return pattern.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check_include_direction(root):
    """numa <- mmap <- experts <- runtime <- bench; nobody but tests includes tests."""
    for path in code_files(root):
        name = path.relative_to(root)
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            quote, target = match.groups()
            if quote != '"' or target == "stoker_version.h":
                continue
            where = f"{name}:{line_of(text, match.start())}"
            if not (root / target).is_file():
                yield f'{where}: "{target}" is not a path from the root of the tree'
                continue
            source_room, target_room = name.parts[0], target.split("/")[0]
            if source_room == "tests":
                continue
            if target_room not in ROOMS or ROOMS.index(target_room) > ROOMS.index(source_room):
                yield f"{where}: {source_room}/ must not include {target_room}/"


def check_wrapper_rooms(root):
    """Each outside library is included in its own room only."""
    for path in code_files(root):
        name = str(path.relative_to(root))
        if name.startswith("tests/") and not name.endswith(".h"):
            allowed_in_tests = {r"nlohmann/.*", r"simdjson.*"}
        else:
            allowed_in_tests = set()
        text = path.read_text()
        for match in INCLUDE.finditer(text):
            target = match.group(2)
            for library, homes in WRAPPERS.items():
                if not re.fullmatch(library, target) or library in allowed_in_tests:
                    continue
                at_home = any(name.startswith(h) if h.endswith("/") else name == h for h in homes)
                if not at_home:
                    where = f"{name}:{line_of(text, match.start())}"
                    yield f"{where}: <{target}> belongs in {', '.join(homes)}"


def check_headers_open_well(root):
    """A header starts with #pragma once and says what it is."""
    for path in files_under(root, CODE_DIRS, {".h"}):
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        name = path.relative_to(root)
        if not lines or lines[0] != "#pragma once":
            yield f"{name}:1: a header starts with #pragma once"
        elif len(lines) < 2 or not lines[1].startswith("//"):
            yield f"{name}:2: a header opens with a comment that says what it is"


def check_readmes(root):
    """Every room and its parts have a README.md of one screen; tests/ has one for all of it.

    Folders deeper than room/part (the kernels of one instruction set) are told of by their part.
    """
    folders = {path.parent for path in files_under(root, ROOMS, {".h", ".cc"})
               if len(path.parent.relative_to(root).parts) <= 2}
    for folder in sorted(folders | {root / room for room in CODE_DIRS}):
        readme = folder / "README.md"
        name = folder.relative_to(root)
        if not readme.is_file():
            yield f"{name}/: has no README.md"
        elif len(readme.read_text().splitlines()) > 80:
            yield f"{name}/README.md: longer than one screen (80 lines)"


def check_length(root):
    """No source file passes the limit."""
    for path in files_under(root, TEXT_DIRS, {".h", ".cc", ".py", ".cmake", ".txt", ""}):
        if path.stat().st_size > 1 << 20:
            continue  # Test data, which no one reads as source.
        try:
            count = len(path.read_text().splitlines())
        except UnicodeDecodeError:
            continue
        if count > MAX_LINES:
            yield f"{path.relative_to(root)}: {count} lines, the limit is {MAX_LINES}"


def check_columns(root):
    """Code lines end at column 100, without trailing blanks."""
    for path in code_files(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(root)}:{number}"
            if len(line) > 100:
                yield f"{where}: {len(line)} columns, the limit is 100"
            if line != line.rstrip():
                yield f"{where}: trailing blanks"


def check_namespaces(root):
    """One namespace, stoker, with sub-namespaces below it.

    Aliases in sources are free, and so is declaring a class of an outside library.
    """
    for path in files_under(root, ROOMS, {".h", ".cc"}):
        text = without_comments(path.read_text())
        for match in NAMESPACE.finditer(text):
            if match.group(0).rstrip().endswith("="):
                continue
            if re.match(r"\s*class \w+;\s*\}", text[match.end():]):
                continue
            if match.group(1).split("::")[0] == "stoker":
                continue
            # A nested namespace written on its own is fine inside namespace stoker.
            before = text[: match.start()]
            if not re.search(r"^namespace stoker\b[^;{]*\{", before, re.M):
                where = f"{path.relative_to(root)}:{line_of(text, match.start())}"
                yield f"{where}: namespace {match.group(1)} outside namespace stoker"
        if "using namespace std;" in text:
            yield f"{path.relative_to(root)}: using namespace std"


def check_forbidden(root):
    """No std::regex, whose matcher recurses once per character; no notes to ourselves."""
    for path in code_files(root):
        text = path.read_text()
        name = path.relative_to(root)
        for match in re.finditer(r"std::w?regex|#\s*include\s*<regex>", without_comments(text)):
            yield f"{name}:{line_of(text, match.start())}: std::regex on user text; use PCRE2"
    for path in files_under(root, TEXT_DIRS, {".h", ".cc", ".py", ".cmake", ".txt", ".md", ""}):
        if path.stat().st_size > 1 << 20:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for match in FORBIDDEN_WORDS.finditer(text):
            where = f"{path.relative_to(root)}:{line_of(text, match.start())}"
            yield f"{where}: {match.group(0)}: finish it or drop it"


def check_sources_listed(root):
    """Every source file is named in a CMakeLists.txt above it; nothing lies about unbuilt."""
    patterns = []
    for path in files_under(root, CODE_DIRS, {".txt"}):
        if path.name != "CMakeLists.txt":
            continue
        for word in re.findall(r"[^\s()]+\.cc\b", path.read_text()):
            # A loop's ${variable} stands for any part of a file name.
            named = os.path.normpath(path.parent.relative_to(root) / word)
            patterns.append(re.sub(r"\\\$\\\{\w+\\\}", "[^/]*", re.escape(named)))
    listed = re.compile("|".join(patterns) or "(?!)")
    for path in files_under(root, CODE_DIRS, {".cc"}):
        name = str(path.relative_to(root))
        if not listed.fullmatch(name):
            yield f"{name}: not in any CMakeLists.txt"


def compile_alone(arguments):
    root, compiler, path = arguments
    name = path.relative_to(root)
    result = subprocess.run(
        [*compiler.split(), "-std=c++20", "-fopenmp", "-fsyntax-only", f"-I{root}", "-x", "c++", "-"],
        input=f'#include "{name}"\n', capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.splitlines()
    first = next((line for line in lines if "error:" in line), result.stderr[:200])
    return f"{name}: does not compile alone: {first}"


def headers_proven_by_the_build(root):
    """Headers that some source includes before anything else: compiling it compiles them alone.

    Not where a precompiled header comes first.
    """
    first_includes = (INCLUDE.search(path.read_text())
                      for path in files_under(root, CODE_DIRS, {".cc"})
                      if not str(path.relative_to(root)).startswith(tuple(PRECOMPILED)))
    return {root / match.group(2) for match in first_includes if match and match.group(1) == '"'}


def check_headers_alone(root, compiler):
    """Each header compiles by itself; those that the build proves are not compiled again."""
    proven = headers_proven_by_the_build(root)
    work = [(root, compiler, path) for path in files_under(root, CODE_DIRS, {".h"})
            if path not in proven]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for finding in pool.map(compile_alone, work):
            if finding:
                yield finding


RULES = [
    check_include_direction,
    check_wrapper_rooms,
    check_headers_open_well,
    check_readmes,
    check_length,
    check_columns,
    check_namespaces,
    check_forbidden,
    check_sources_listed,
]


def main():
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    root = Path(sys.argv[1]).resolve()
    if len(sys.argv) == 4:
        rules = [lambda r: check_headers_alone(r, sys.argv[3])]
    else:
        rules = RULES
    findings = [finding for rule in rules for finding in rule(root)]
    for finding in findings:
        print(finding)
    files = sum(1 for _ in code_files(root))
    print(f"{files} source files, {len(findings)} findings")
    # A tree without code means the wrong ROOT, which must not pass as clean.
    sys.exit(1 if findings or files == 0 else 0)


if __name__ == "__main__":
    main()
