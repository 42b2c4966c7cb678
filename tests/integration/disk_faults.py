#!/usr/bin/env python3
"""Runs stoker over a file system whose direct reads fail on demand (fault_fs.c, FUSE).

    disk_faults.py STOKER FAULT_FS

A small synthetic model, paged, by io_uring and by pread: what passes must give the tokens of the
healthy disk; what stays must end the run with exit code 1 and one line that names file, tensor and
offset, without hanging. Exits with 4 where FUSE cannot be used.
"""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from model_tensors import model_tensors

SKIPPED = 4
SECONDS = 60  # none of these runs may take longer
MEMORY = "146MiB"  # a quarter of the experts


class DiskFaults(unittest.TestCase):
    stoker = fault_fs = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.folder.cleanup)
        root = Path(cls.folder.name)
        (root / "source").mkdir()
        (root / "mount").mkdir()
        cls.control, cls.model = root / "control", root / "mount" / "model.gguf"
        subprocess.run([cls.stoker, "synth", root / "source" / "model.gguf", "--preset", "demo"],
                       check=True, capture_output=True)
        cls.rules("")
        cls.mount = subprocess.Popen([cls.fault_fs, root / "source", cls.control, root / "mount"],
                                     stderr=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls.unmount)
        for _ in range(100):
            if os.path.ismount(root / "mount"):
                break
            if cls.mount.poll() is not None:
                print("skipped: FUSE cannot mount:", cls.mount.stderr.read().strip())
                sys.exit(SKIPPED)
            time.sleep(0.05)
        cls.tensors = model_tensors(cls.stoker, cls.model)
        cls.healthy = cls.run_model("uring")
        assert cls.healthy.returncode == 0, cls.healthy.stderr

    @classmethod
    def unmount(cls):
        cls.mount.terminate()  # FUSE unmounts then
        cls.mount.wait()
        cls.mount.stderr.close()

    @classmethod
    def rules(cls, text):
        cls.control.write_text(text)

    @classmethod
    def run_model(cls, io):
        return subprocess.run(
            [cls.stoker, "run", cls.model, "-p", "Once upon a time", "-n", "16", "--temp", "0",
             "-c", "1024", "-ub", "128", "--mode", "paged", "--memory", MEMORY, "--io", io],
            capture_output=True, timeout=SECONDS)

    def check_same(self, rules):
        for io in ("uring", "pread"):
            with self.subTest(rules=rules, io=io):
                self.rules(rules)
                done = self.run_model(io)
                self.rules("")
                self.assertEqual(done.returncode, 0, done.stderr.decode())
                self.assertEqual(done.stdout, self.healthy.stdout)

    def check_fails(self, rules, *words):
        for io in ("uring", "pread"):
            with self.subTest(rules=rules, io=io):
                self.rules(rules)
                done = self.run_model(io)
                self.rules("")
                self.assertEqual(done.returncode, 1, done.stderr.decode())
                last = done.stderr.decode().strip().splitlines()[-1]
                for word in ("model.gguf", *words):
                    self.assertIn(word, last)

    def test_what_passes_changes_nothing(self):
        self.check_same("eio_every 50\n")
        for n in (4096, 100000, 65536 + 512):
            self.check_same(f"short {n}\n")
        self.check_same("delay_ms 5\n")

    def test_a_bad_sector_of_an_expert(self):
        tensor = self.tensors["blk.3.ffn_down_exps.weight"]
        # Not its edges: reads of the neighbours touch them too.
        self.check_fails(f"eio {tensor['offset'] + 8192} {tensor['bytes'] - 16384}\n",
                         "tensor blk.3.ffn_down_exps.weight", "offset", "Input/output error")

    def test_a_bad_sector_of_what_is_loaded_first(self):
        tensor = self.tensors["blk.2.attn_output.weight"]
        # Tensors that lie together are read together; the first of them is named.
        self.check_fails(f"eio {tensor['offset'] + 4096} 512\n", "tensor blk.2.", "offset",
                         "Input/output error")

    def test_a_file_that_became_shorter(self):
        tensor = self.tensors["blk.5.ffn_up_exps.weight"]
        self.check_fails(f"end {tensor['offset']}\n", "tensor ", "offset",
                         "met the end of the file")


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        print("skipped: /dev/fuse cannot be opened")
        sys.exit(SKIPPED)
    DiskFaults.stoker, DiskFaults.fault_fs = sys.argv[1:]
    unittest.main(argv=sys.argv[:1], verbosity=2)


if __name__ == "__main__":
    main()
