#!/usr/bin/env python3
"""Runs tests of products as on a processor with a matrix unit (AMX), on one with AVX-512 and none.

    amx_emulated.py STOKER EMULATION TESTS...

EMULATION is the library of amx_emulation.cc; TESTS are the executables that hold the tests named
below. Copies of them and of oneDNN are made in which CPUID and XGETBV are opcodes that it answers.
Kernels, tests and oneDNN then take the paths for tiles, compute the same results, and the number of
tile products says that they did. Correctness is tested here, not speed. Exits with 4 where the
machine cannot do it: no AVX-512 with VNNI and BF16, tiles of its own, or a build without oneDNN.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 4
RUNS = {  # executable, and which of its tests, each a process
    "runtime_kernels_tests": ("[#matmul_test]", "[#scaled_products_test]",
                              "where routes round differently*"),
    "runtime_layers_tests": ("[#arriving_experts_test]",),
    "golden_test": ("[#golden_test]~paged:*", "[#int8_test]"),
}
NEEDED = {"avx512f", "avx512_vnni", "avx512_bf16"}
REPLACED = {"cpuid": (b"\x0f\xa2", b"\x0f\x04"), "xgetbv": (b"\x0f\x01\xd0", b"\x0f\x0a\x90")}


def skip(why):
    print("skipped:", why)
    sys.exit(SKIPPED)


def check_machine():
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    if "amx_tile" in flags:
        skip("this machine has tiles; the other tests ran on them")
    if not NEEDED <= flags:
        skip(f"this machine lacks {', '.join(sorted(NEEDED - flags))}")
    if shutil.which("objdump") is None:
        skip("no objdump; apt-get install binutils")


def onednn_of(binary):
    listing = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    found = re.search(r"=> (/\S*libdnnl\S*)", listing)
    return found and Path(found[1])


def offsets_of_sections(binary):
    """(address, bytes, place in the file) of every section."""
    listing = subprocess.run(["objdump", "-h", "-w", binary], capture_output=True, text=True,
                             check=True).stdout
    rows = re.findall(r"^\s*\d+ \S+\s+([0-9a-f]+)\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)", listing,
                      re.MULTILINE)
    return [(int(address, 16), int(size, 16), int(place, 16)) for size, address, place in rows]


def redirect(binary, folder):
    """A copy of the executable or library that asks the emulation about the machine."""
    data = bytearray(binary.read_bytes())
    sections = offsets_of_sections(binary)
    n_found = 0
    with subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", binary], stdout=subprocess.PIPE,
                          text=True) as process:
        for line in process.stdout:
            match = re.match(r"\s*([0-9a-f]+):\s+(cpuid|xgetbv)\s*$", line)
            if not match:
                continue
            address = int(match[1], 16)
            start, place = next((start, place) for start, size, place in sections
                                if start <= address < start + size)
            at = place + address - start
            old, new = REPLACED[match[2]]
            assert data[at:at + len(old)] == old, f"{binary}: no {match[2]} at {at:#x}"
            data[at:at + len(new)] = new
            n_found += 1
    assert process.returncode == 0 and n_found > 0, f"{binary}: nothing to redirect"
    copy = folder / binary.name
    copy.write_bytes(data)
    copy.chmod(0o755)
    return copy


def environment(emulation, folder):
    return dict(os.environ, LD_PRELOAD=str(emulation), LD_LIBRARY_PATH=str(folder),
                XDG_CACHE_HOME=str(folder / "cache"), STOKER_ISA="avx512")


def check_probe(stoker, variables):
    """That the program believes it has tiles: all other runs would pass without them too."""
    shown = subprocess.run([stoker, "probe"], env=variables, capture_output=True, text=True)
    if shown.returncode != 0 or "amx_int8 amx_bf16" not in shown.stdout:
        sys.exit(f"stoker probe sees no matrix unit:\n{shown.stdout}{shown.stderr}")


def run_tests(binary, which, variables):
    """Tile products (of bytes, of bf16) of these tests, which must pass."""
    done = subprocess.run([binary, which], env=variables, capture_output=True, text=True)
    text = done.stdout + done.stderr
    name = f"{binary.name} {which}"
    if done.returncode == SKIPPED:
        print(f"{name}: {text.strip()}")
        return 0, 0
    if done.returncode != 0:
        sys.exit(f"{name}: failed\n{text[-4000:]}")
    if "here; own kernels do" in text:  # a self-test that failed
        sys.exit(f"{name}: oneDNN was put aside\n{text[-4000:]}")
    counts = re.search(r"amx emulation: (\d+) int8, (\d+) bf16", text)
    print(f"{name}: passed, {counts[1]} products of int8 tiles, {counts[2]} of bf16", flush=True)
    return int(counts[1]), int(counts[2])


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    stoker, emulation, *tests = [Path(path).resolve() for path in sys.argv[1:]]
    check_machine()
    onednn = onednn_of(stoker)
    if not onednn:
        skip("built without oneDNN")
    n_int8 = n_bf16 = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        redirect(onednn, folder)
        variables = environment(emulation, folder)
        check_probe(redirect(stoker, folder), variables)
        for test in tests:
            copy = redirect(test, folder)
            for which in RUNS[test.name]:
                more_int8, more_bf16 = run_tests(copy, which, variables)
                n_int8 += more_int8
                n_bf16 += more_bf16
    if n_int8 == 0 or n_bf16 == 0:
        sys.exit("no test multiplied tiles of both kinds")


if __name__ == "__main__":
    main()
