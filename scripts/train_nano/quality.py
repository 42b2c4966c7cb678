#!/usr/bin/env python3
"""Prints the rows of docs/quality.md: what each quantisation type costs M1-nano.

usage: quality.py nano-bf16.gguf TYPES TEXT [--stoker PATH] [--json OUT]

TYPES is the folder make_types wrote, TEXT the held-out text of topics.py. Perplexity and the
divergence from BF16 by `stoker perplexity`, tasks by evaluate.py's smaller set.
"""

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

import evaluate


def perplexity(stoker, model, options):
    done = subprocess.run([stoker, "perplexity", model, "-c", "512", *options],
                          capture_output=True, text=True, check=True)
    output = done.stdout + done.stderr
    find = lambda pattern: float((re.search(pattern, output) or [0, "nan"])[1])
    return {"ppl": find(r"PPL(?:\(Q\))?\s*[:=]\s*([\d.]+)"),
            "kld": find(r"Mean\s+KLD:\s*([-\d.]+)"), "same_top": find(r"Same top p:\s*([\d.]+)")}


def row(name, size, p, tasks):
    percent = lambda key: f"{100 * tasks[key]:.1f}"
    return (f"| {name} | {size / 2**20:.1f} | {p['ppl']:.4f} | {p['kld']:.5f} | "
            f"{p['same_top']:.2f} | {percent('arithmetic')} | {percent('recall')} | "
            f"{percent('story_sentences')} | {percent('chat_answers')} | "
            f"{percent('turns_ended')} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("types", type=Path)
    parser.add_argument("text")
    parser.add_argument("--stoker", default="build/release/bin/stoker")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    files = [Path(args.base), *sorted(args.types.glob("nano-*.gguf"),
                                      key=lambda f: -f.stat().st_size)]
    out = []
    print("| type | MiB | PPL | mean KLD | same top % | arithmetic % | recall % | story "
          "sentences % | chat answers % | turns ended % |")
    print("|" + "---|" * 10)
    with tempfile.NamedTemporaryFile(suffix=".base") as base:
        for file in files:
            # The base holds the text's tokens too.
            options = (["-f", args.text, "--save-base", base.name] if file == files[0]
                       else ["--kl-base", base.name])
            p = perplexity(args.stoker, str(file), options)
            if file == files[0]:
                p |= {"kld": 0.0, "same_top": 100.0}
            engine = evaluate.Stoker(args.stoker, str(file), [])
            tasks = evaluate.evaluate(engine, "small", lambda text: len(text.split()))
            name = file.stem.removeprefix("nano-")
            out.append({"type": name, "bytes": file.stat().st_size, **p, **tasks})
            print(row(name, file.stat().st_size, p, tasks), flush=True)
            if args.json:
                args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
