#!/usr/bin/env python3
"""Models whose layers share their experts' blocks of the disk, on an XFS made for it.

    shared_blocks.py STOKER

What is written must be the same file as one whose layers are copied, take less of the disk, and run
with few experts in memory. Exits with 4 where no XFS can be made and mounted (root only).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from model_tensors import model_tensors

SKIPPED = 4
LAYERS = 16
DISTINCT = 2
SIZE_BYTES = 1 << 30


def require(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        print("skipped:", error)
        sys.exit(SKIPPED)
    if done.returncode != 0:
        print("skipped:", " ".join(map(str, command)), done.stderr.strip())
        sys.exit(SKIPPED)


class SharedBlocks(unittest.TestCase):
    stoker = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
            print("skipped: needs root and mkfs.xfs (xfsprogs)")
            sys.exit(SKIPPED)
        cls.folder = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.folder.cleanup)
        image, mount = Path(cls.folder.name) / "image", Path(cls.folder.name) / "mount"
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(SIZE_BYTES)
        require(["mkfs.xfs", "-q", "-m", "reflink=1", image])
        require(["mount", "-o", "loop", image, mount])
        cls.addClassCleanup(subprocess.run, ["umount", mount], check=True)
        cls.model = mount / "model.gguf"
        made = subprocess.run([cls.stoker, "synth", cls.model, "--preset", "demo", "--layers",
                               str(LAYERS), "--distinct-experts", str(DISTINCT)],
                              capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        cls.made = made.stderr
        cls.tensors = model_tensors(cls.stoker, cls.model)

    def bytes_of(self, name):
        with open(self.model, "rb") as file:
            file.seek(self.tensors[name]["offset"])
            return file.read(self.tensors[name]["bytes"])

    def test_layers_repeat_the_experts_of_others_of_their_type(self):
        ups = [self.bytes_of(f"blk.{layer}.ffn_up_exps.weight") for layer in range(LAYERS)]
        self.assertEqual(len(set(ups)), DISTINCT)
        self.assertEqual(ups[2:4], ups[0:2])
        self.assertGreater(len(set(ups[0])), 100)  # no holes
        downs = {(self.tensors[f"blk.{layer}.ffn_down_exps.weight"]["type"],
                  self.bytes_of(f"blk.{layer}.ffn_down_exps.weight")) for layer in range(LAYERS)}
        self.assertEqual(len(downs), 2 * DISTINCT)
        # Nothing else is shared.
        self.assertEqual(len({self.bytes_of(f"blk.{layer}.attn_output.weight")
                              for layer in range(LAYERS)}), LAYERS)

    def test_the_disk_holds_what_was_said(self):
        size = self.model.stat().st_size
        parent = os.statvfs(self.model.parent)
        used = (parent.f_blocks - parent.f_bfree) * parent.f_frsize
        self.assertIn("of the disk", self.made)
        self.assertLess(used, size)

    def test_it_runs_with_few_experts_in_memory(self):
        def answer(*options):
            done = subprocess.run([self.stoker, "run", self.model, "-p", "one two three", "-n", "8",
                                   "--temp", "0", *options], capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout
        self.assertEqual(answer("--mode", "paged", "--memory", "180MiB"), answer())


if __name__ == "__main__":
    SharedBlocks.stoker = sys.argv.pop(1)
    unittest.main()
