#!/usr/bin/env python3
"""Writes held-out documents per topic, one file each, for traces and for routing statistics.

usage: topics.py OUT [--documents N]

OUT/tune/TOPIC-NN.txt for prose, arithmetic, recall, code and mixed chats; OUT/held-out/ for the
topics kept apart, the second script and questions of common knowledge; OUT/held-out.txt is a
mixture of all for perplexity.
"""

import argparse
import random
from pathlib import Path

import tasks

TUNE = {"prose": tasks.story_text, "arithmetic": tasks.arithmetic_chat,
        "recall": tasks.recall_chat, "code": tasks.code_file, "chat": tasks.mixed_chat}


def knowledge_chat(rng):
    doc = tasks.Doc("knowledge")
    head = tasks.chat_head(rng, doc)
    for _ in range(5):
        tasks.add_turn(doc, head, *tasks.knowledge_turn(rng))
    return doc


HELD_OUT = {"russian": tasks.russian_text, "knowledge": knowledge_chat}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=12, help="of each topic")
    args = parser.parse_args()
    mixture = []
    for folder, topics in (("tune", TUNE), ("held-out", HELD_OUT)):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
        for topic, make in topics.items():
            rng = random.Random(f"held-out {topic}")
            for number in range(args.documents):
                text = make(rng).text
                (args.out / folder / f"{topic}-{number:02d}.txt").write_text(text)
                mixture.append(text)
    random.Random("held-out order").shuffle(mixture)
    (args.out / "held-out.txt").write_text("".join(mixture))


if __name__ == "__main__":
    main()
