#!/usr/bin/env python3
"""Makes the dequantisation fixtures beside this file, with the gguf package as the judge.

    make_dequantize_fixtures.py OUT_DIR [FILE.gguf ...]

Per block format one file NAME.bin: uint32 number of elements, uint32 number of block bytes, the
blocks, then the expected f32 values. Without GGUF files: two groups of 256 elements from random bytes
with finite scales, small and large; every code occurs. With GGUF files: the first tensor of each
format found there, whole (for checks by hand; not kept in the tree).
"""

import struct
import sys
from pathlib import Path

import gguf
import numpy as np

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
           "IQ4_NL", "IQ4_XS"]
# Byte offsets of the f16 fields within one block.
F16_OFFSETS = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
               "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
               "IQ4_NL": [0], "IQ4_XS": [0]}
ELEMENTS = 512


def write(path, blocks, values):
    raw = blocks.tobytes()
    data = values.astype("<f4").tobytes()
    path.write_bytes(struct.pack("<II", len(data) // 4, len(raw)) + raw + data)


def random_blocks(name, rng):
    kind = gguf.GGMLQuantizationType[name]
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_blocks = ELEMENTS // block_elements
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    for offset in F16_OFFSETS[name]:
        exponents = rng.uniform(-7.0, 1.0, n_blocks)  # 1e-7 is subnormal in f16
        scales = (rng.choice([-1.0, 1.0], n_blocks) * 10.0 ** exponents).astype("<f2")
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return kind, blocks


def main():
    out = Path(sys.argv[1])
    rng = np.random.default_rng(20250613)
    if len(sys.argv) == 2:
        for name in FORMATS:
            kind, blocks = random_blocks(name, rng)
            values = gguf.quants.dequantize(blocks.reshape(-1), kind)
            write(out / f"{name.lower()}.bin", blocks, values.reshape(-1))
        return
    for file in sys.argv[2:]:
        seen = set()
        for tensor in gguf.GGUFReader(file).tensors:
            name = tensor.tensor_type.name
            if name in seen:
                continue
            seen.add(name)
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            write(out / f"{name.lower()}-{Path(file).stem}.bin", tensor.data, values.reshape(-1))


if __name__ == "__main__":
    main()
