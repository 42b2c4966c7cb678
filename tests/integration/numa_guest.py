#!/usr/bin/env python3
"""Runs stoker in virtual machines with 1, 2 and 4 NUMA nodes and compares what comes out.

    numa_guest.py STOKER [--keep DIR]

QEMU in software emulation (no KVM needed; AVX2 level), a Debian cloud kernel fetched with apt-get
and kept in the cache directory, a disk image with the stoker binary, a small synthetic model, and the
reference model of STOKER_GOLDEN_DIR where there is one.
In every machine: the logits must be those of the machine with one node, twice the same bits, with
all weight pages on their planned node (stoker asks the kernel, move_pages); the same again paged by
io_uring. Placement is tested here, not speed. Exits with 4 where a tool or the kernel is missing.
"""

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

SKIPPED = 4
NODES = (1, 2, 4)
N_CPUS = 4
NODE_MIB = {1: 1536, 2: 768, 4: 384}
GUEST_SECONDS = 90
TOOLS = {  # what is called, and the Debian package that has it
    "qemu-system-x86_64": "qemu-system-x86 seabios",
    "busybox": "busybox-static",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
KERNEL_PACKAGE = "linux-image-cloud-amd64"  # NVMe and ext4 built in: boots without an initramfs

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
echo 0 > /proc/sys/kernel/numa_balancing 2>/dev/null
export HOME=/ PATH=/bin
model=/model.gguf
run() {
  name=$1
  shift
  stoker logits $model --ids @/ids --greedy 3 -o /out/$name.safetensors -ub 16 "$@" \
    > /out/$name.log 2>&1
  echo "exit code $?" >> /out/$name.log
}
case $STOKER_NODES in
  1) even=shard some=126M ;;
  2) even=shard:1,1 uneven=shard:3,1 some=129M ;;
  4) even=shard:1,1,1,1 uneven=shard:3,1,2,2 some=132M ;;
esac
run off --numa off
run shard --numa $even
run again --numa auto
run paged --numa $even --mode paged --io uring --memory 142M
if [ "$STOKER_NODES" != 1 ]; then
  run uneven --numa $uneven
  run node --numa node:1
  run interleave --numa interleave
fi
if [ -e /golden.gguf ]; then
  model=/golden.gguf
  run golden --numa $even
  run golden_paged --numa $even --mode paged --io uring --memory $some
fi
$b sync
$b poweroff -f
"""


def say(text):
    print(f"numa_guest: {text}", flush=True)


def skip(why):
    say(f"skipped: {why}")
    sys.exit(SKIPPED)


def check_tools():
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    os.environ["PATH"] = path
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(dict.fromkeys(TOOLS[tool] for tool in missing))
        skip(f"no {', '.join(missing)}; apt-get install {packages}")


def fetch_kernel():
    """The kernel image of Debian's cloud kernel, from the cache or by apt-get."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stoker"
    kept = cache / "guest-vmlinuz"
    if kept.exists():
        return kept
    depends = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], capture_output=True,
                             text=True, check=False).stdout
    names = re.findall(r"Depends: (linux-image-\S+)", depends)
    if not names:
        skip(f"apt knows no {KERNEL_PACKAGE}; apt-get update")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        done = subprocess.run(["apt-get", "download", names[0]], cwd=work, capture_output=True,
                              text=True, check=False)
        packages = list(Path(work).glob("*.deb"))
        if done.returncode != 0 or not packages:
            skip(f"apt-get download {names[0]} failed: {done.stderr.strip()[-200:]}")
        subprocess.run(["dpkg-deb", "-x", packages[0], Path(work) / "root"], check=True)
        images = list((Path(work) / "root/boot").glob("vmlinuz-*"))
        if not images:
            skip(f"{names[0]} holds no kernel image")
        images[0].rename(kept)
    return kept


def libraries_of(binary):
    listing = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listing)]


def make_model(stoker, path):
    """Every part of M1 in 50 MB; matrices of some hundred KiB, so that cuts fall anywhere."""
    subprocess.run([stoker, "synth", path, "--preset", "demo", "--type", "q4_k_m", "--layers", "4",
                    "--heads", "8", "--kv-heads", "4", "--hidden", "512", "--expert-hidden", "768",
                    "--experts", "16"], check=True, capture_output=True)


def make_disk(stoker, root):
    for folder in ("bin", "out", "proc", "sys", "dev", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    shutil.copy(stoker, root / "bin/stoker")
    for library in libraries_of(stoker):
        target = root / str(library).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "ids").write_text("11,7,402,3,99,1000,5,23,64,8,512,77\n")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    image = root.parent / "disk.img"
    with open(image, "wb") as file:
        file.truncate(used * 5 // 4 + (64 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, image], check=True)
    return image


def run_guest(kernel, image, nodes, log):
    """Boots a machine of so many nodes; returns the seconds it took."""
    mib = NODE_MIB[nodes]
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
               "-m", f"{mib * nodes}M", "-smp", f"{N_CPUS},sockets={N_CPUS},cores=1,threads=1"]
    each = N_CPUS // nodes
    for node in range(nodes):
        command += ["-object", f"memory-backend-ram,size={mib}M,id=m{node}", "-numa",
                    f"node,nodeid={node},cpus={node * each}-{node * each + each - 1},memdev=m{node}"]
    for a in range(nodes):
        for b in range(nodes):
            if a != b:
                command += ["-numa", f"dist,src={a},dst={b},val={20 + abs(a - b)}"]
    command += ["-kernel", kernel, "-append",
                f"root=/dev/nvme0n1 rw init=/init console=ttyS0 quiet panic=-1 STOKER_NODES={nodes}",
                "-drive", f"file={image},format=raw,if=none,id=d0,cache=unsafe",
                "-device", "nvme,serial=stoker,drive=d0",
                "-nographic", "-no-reboot", "-net", "none"]
    start = time.monotonic()
    with open(log, "wb") as console:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                           timeout=GUEST_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            sys.exit(f"a guest of {nodes} nodes did not end in {GUEST_SECONDS} s; see {log}")
    return time.monotonic() - start


def read_logits(path):
    """All f32 tensors of a safetensors file, by name."""
    data = path.read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + header_bytes])
    values = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values[name] = array("f", data[8 + header_bytes + begin:8 + header_bytes + end])
    return values


def largest_difference(a, b):
    """Of all values, relative to the largest; infinite when shapes differ or a value is no number."""
    if a.keys() != b.keys():
        return float("inf")
    worst = 0.0
    for name in a:
        if len(a[name]) != len(b[name]):
            return float("inf")
        scale = max(abs(x) for x in a[name])
        difference = max(abs(x - y) for x, y in zip(a[name], b[name]))
        if not difference <= scale:
            return float("inf")
        worst = max(worst, difference / scale)
    return worst


class Checker:
    def __init__(self):
        self.failures = 0

    def that(self, condition, text):
        if not condition:
            self.failures += 1
            say(f"FAILED: {text}")


def pages_by_node(log):
    """MiB by node, of the report "... pages on plan (node 0: 7.1 MiB, node 1: 7.1 MiB)"."""
    scale = {"B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 1024.0}
    return {int(node): float(amount) * scale[unit]
            for node, amount, unit in re.findall(r"node (\d+): ([\d.]+) (\w+)", log)}


def check_run(check, nodes, name, out, reference):
    log = (out / f"{name}.log").read_text()
    where = f"{nodes} nodes, {name}"
    check.that("exit code 0" in log, f"{where}: {log[-600:]}")
    if "exit code 0" not in log:
        return
    difference = largest_difference(reference, read_logits(out / f"{name}.safetensors"))
    check.that(difference <= 1e-5, f"{where}: logits differ by {difference:.2g}")
    spread = pages_by_node(log)
    paged = name in ("paged", "golden_paged")
    if name not in ("off", "node", "interleave") and (nodes > 1 or name != "again"):
        what = "weight and slot" if paged else "weight"
        check.that(f"100.0 % of {what} pages on plan" in log, f"{where}: {log[-400:]}")
        check.that(sorted(spread) == list(range(nodes)), f"{where}: pages on nodes {spread}")
        check.that(nodes == 1 or f"shard over {nodes} nodes" in log, f"{where}: {log[-400:]}")
        if name in ("shard", "paged"):
            check.that(min(spread.values()) > 0.7 * max(spread.values()), f"{where}: {spread}")
        if name == "uneven":
            check.that(spread.get(0, 0) > 2 * spread.get(1, 0), f"{where}: {spread}")
    if paged:
        check.that("io_uring" in log, f"{where}: not by io_uring: {log[-400:]}")
        slots = re.search(r"paged \((\d+) of (\d+) experts", log)
        check.that(slots and int(slots[1]) < int(slots[2]), f"{where}: nothing was paged")
    if name == "node":
        check.that(list(spread) == [1] and "100.0 %" in log, f"{where}: pages on nodes {spread}")
    if name == "interleave":
        check.that(len(spread) == nodes and min(spread.values()) > 0.5 * max(spread.values()),
                   f"{where}: pages on nodes {spread}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stoker")
    parser.add_argument("--keep", help="keep disks and logs in this directory")
    arguments = parser.parse_args()
    check_tools()
    kernel = fetch_kernel()
    check = Checker()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(arguments.keep or scratch)
        work.mkdir(parents=True, exist_ok=True)
        root = work / "root"
        root.mkdir(exist_ok=True)
        make_model(arguments.stoker, root / "model.gguf")
        golden = Path(os.environ.get("STOKER_GOLDEN_DIR", "/nowhere")) / "kq-q8_0.gguf"
        extra = 0
        if golden.exists():
            shutil.copyfile(golden, root / "golden.gguf")
            extra = 2
        else:
            say("no reference model in STOKER_GOLDEN_DIR: its runs are left out")
        disk = make_disk(arguments.stoker, root)
        references = {}  # of the machine with one node, by run
        for nodes in NODES:
            image = work / f"disk{nodes}.img"
            shutil.copy(disk, image)
            seconds = run_guest(kernel, image, nodes, work / f"console{nodes}.log")
            out = work / f"out{nodes}"
            out.mkdir(exist_ok=True)
            subprocess.run(["debugfs", "-R", f"rdump /out {out}", image], check=True,
                           capture_output=True)
            out = out / "out"
            names = sorted(path.stem for path in out.glob("*.log"))
            check.that(len(names) == (4 if nodes == 1 else 7) + extra,
                       f"{nodes} nodes: only ran {names}")
            for first in ("off", "golden"):
                if nodes == 1 and (out / f"{first}.safetensors").exists():
                    references[first] = read_logits(out / f"{first}.safetensors")
            if len(references) < 1 + bool(extra):
                sys.exit(f"the guest of one node made no logits; see {work}/console1.log")
            for name in names:
                first = "golden" if name.startswith("golden") else "off"
                check_run(check, nodes, name, out, references[first])
            same = (out / "shard.safetensors").read_bytes() == (
                out / "again.safetensors").read_bytes()
            check.that(same, f"{nodes} nodes: two runs differ")
            say(f"{nodes} node(s): {', '.join(names)} in {seconds:.1f} s")
    say("failed" if check.failures else "passed")
    sys.exit(1 if check.failures else 0)


if __name__ == "__main__":
    main()
