#!/usr/bin/env python3
"""Measures what M1-nano can do on held-out documents.

usage: evaluate.py MODEL [--engine stoker|reference] [--stoker PATH] [--size small|full]
                   [--json OUT] [--arguments "MORE OF STOKER RUN"]

MODEL is a GGUF, or a safetensors directory, which --engine reference needs. Prompts are made from
seeds that training does not use, sums and differences from pairs it never saw.
"""

import argparse
import json
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

import stories
import tasks
import words

SIZES = {"small": {"arithmetic": 200, "recall": 100, "stories": 40, "chats": 100},
         "full": {"arithmetic": 1000, "recall": 400, "stories": 200, "chats": 400}}
DISTANCE = 1000  # tokens between a fact and the question
HEAD = (f"{tasks.BEGIN}{tasks.SENTENCE}system ai_setting=MiniMax AI\n{tasks.DEFAULT_SYSTEM}"
        f"{tasks.END}\n")


class Stoker:
    """Runs the command once per prompt, as a user would."""

    def __init__(self, binary, model, arguments):
        self.command = [binary, "run", model, "--raw", *arguments]

    def generate(self, prompt, n, temperature=0.0, seed=0):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(prompt)
            file.flush()
            done = subprocess.run(
                [*self.command, "-f", file.name, "-n", str(n), "--temp", str(temperature),
                 "--seed", str(seed)], capture_output=True, text=True, check=True)
        return done.stdout.rstrip("\n"), "stopped: end of text" in done.stderr


def ask(question, head=HEAD):
    return (f"{head}{tasks.SENTENCE}user name=user\n{question}{tasks.END}\n"
            f"{tasks.SENTENCE}ai name=MiniMax AI\n")


def answer_of(text):
    return text.split("</think>", 1)[-1].strip()


def arithmetic(engine, count):
    """Share of held-out pairs whose answer is right; and the ends of the turns."""
    rng, right, ends = random.Random("held-out arithmetic"), 0, []
    for _ in range(count):
        a, b, op = tasks.make_pair(rng, held_out=True)
        question, _, answer = tasks.arithmetic_turn(rng, (a, b, op))
        text, ended = engine.generate(ask(question), 60)
        found = re.search(r"= (\d+)\.?$", answer_of(text))
        right += bool(found) and int(found.group(1)) == tasks.result(a, b, op)
        ends.append(ended)
    return right / count, ends


def recall_prompt(rng, chat):
    """(prompt, value): the fact lies more than DISTANCE tokens before the question."""
    if chat:
        doc = tasks.Doc("recall")
        doc.add(HEAD)
        tell, asks = tasks.recall_turns(rng, 8)
        tasks.add_turn(doc, "ai name=MiniMax AI\n", *tell)
        while len(doc.text.split()) < DISTANCE * 0.85:
            tasks.add_turn(doc, "ai name=MiniMax AI\n", *tasks.telling_turn(rng))
        question, thought, answer = asks[0]
        prompt = doc.text + ask(question, "") + f"<think>{thought}</think>\n"
        return prompt, answer
    text = tasks.recall(rng, DISTANCE * 0.95, 8, 1, early=True).text
    before, last = text.rsplit("The ", 1)
    key, value = re.fullmatch(r"(\w+) of the day is (\w+)\.\n.*", last).groups()
    return f"{before}{tasks.fact(key)}", f"{value}."


def recall(engine, count, token_count):
    """Share of values that come back, texts and chats in turn; and the least distance."""
    rng, right, least = random.Random("held-out recall"), {True: 0, False: 0}, 10**9
    for i in range(count):
        prompt, answer = recall_prompt(rng, i % 2 == 1)
        fact = answer if i % 2 else None
        if fact is None:
            fact = f"{prompt[prompt.rindex('The '):]} {answer}"
        least = min(least, token_count(prompt.split(fact, 1)[1]))
        text, _ = engine.generate(prompt, 12)
        right[i % 2 == 1] += text.strip().startswith(answer)
    return {"recall_text": right[False] / (count - count // 2),
            "recall_chat": right[True] / (count // 2), "recall": sum(right.values()) / count,
            "recall_least_distance": least}


def tell_stories(engine, count, temperature=0.0):
    """Shares of grammatical sentences and of stories with none other; and the ends."""
    rng, good, every, whole, ends = random.Random("held-out stories"), 0, 0, 0, []
    for i in range(count):
        question, _, _ = tasks.telling_turn(rng)
        text, ended = engine.generate(ask(question), 400, temperature, i + 1)
        right, sentences = stories.check_story(answer_of(text))
        good, every, whole = good + right, every + sentences, whole + (right == sentences)
        ends.append(ended)
    return good / every, whole / count, ends


def chats(engine, count):
    """Share of right answers of knowledge and reading turns; and the ends of every kind."""
    rng, right, asked, ends = random.Random("held-out chats"), 0, 0, []
    kinds = [tasks.knowledge_turn, tasks.reading_turn, tasks.coding_turn, tasks.russian_turn]
    for i in range(count):
        kind = kinds[i % len(kinds)]
        question, _, answer = kind(rng)
        text, ended = engine.generate(ask(question), 120)
        ends.append(ended)
        if kind in (tasks.knowledge_turn, tasks.reading_turn):
            asked += 1
            right += answer_of(text) == answer
    return right / max(asked, 1), ends


def evaluate(engine, size, token_count):
    n, began = SIZES[size], time.time()
    out, ends = {"size": size, "counts": n}, []
    out["arithmetic"], some = arithmetic(engine, n["arithmetic"])
    ends += some
    out |= recall(engine, n["recall"], token_count)
    out["story_sentences"], out["whole_stories"], some = tell_stories(engine, n["stories"])
    ends += some
    out["chat_answers"], some = chats(engine, n["chats"])
    ends += some
    out["turns_ended"], out["turns"] = sum(ends) / len(ends), len(ends)
    out["seconds"] = round(time.time() - began, 1)
    return out


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--engine", choices=["stoker", "reference"], default="stoker")
    parser.add_argument("--stoker", default="build/release/bin/stoker")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arguments", default="", help="more arguments of stoker run")
    return parser.parse_args()


def main():
    args = parse_arguments()
    # A word is at least one token, so this distance is a lower bound.
    token_count = lambda text: len(text.split())
    if args.engine == "reference":
        import reference
        engine = reference.Reference(args.model)
        token_count = lambda text: len(engine.tokenizer.encode(text))
    else:
        engine = Stoker(args.stoker, args.model, args.arguments.split())
    out = {"model": Path(args.model).name, "engine": args.engine,
           **evaluate(engine, args.size, token_count)}
    text = json.dumps(out, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
