#!/usr/bin/env python3
"""Makes tokenizer.json and tokenizer_cases.json here; the reference is Hugging Face tokenizers.

    make_reference.py        needs the Python package `tokenizers`; the results are kept in the tree

The vocabulary is small, trained on the words below. The cases cover every character class, line
ends, long runs, added tokens and their prefixes; `variants` are changes to tokenizer.json, each with
cases of its own. The same seed gives the same files.
"""

import copy
import json
import random
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<begin_of_document>", "<beginning_of_sentence>", "<end_of_sentence>", "<fim_pad>"]
PLAIN = ["<think>", "</think>", "<tool_calls>"]
WORDS = (
    "the The THE model models iPhone hello HelloWorld don't DON'T I'll we'VE they'Re x's X'S 'm 'D "
    "'\u017f it'\u017f na\u00efve caf\u00e9 Stra\u00dfe \u017dLUT\u00dd \u041f\u0440\u0438\u0432\u0435\u0442 "
    "\u043c\u0438\u0440 \u4e2d\u6587 \u6211\u60f3 \u65e5\u672c\u8a9e \u30c6\u30b9\u30c8 \ud55c\uad6d\uc5b4 "
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 "
    "\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301\u0301 12345 3.14 0xFF 1,000 "
    "\u0661\u0662\u0663 \u2167 \u00bd foo_bar() a=b; // /* */ http://x.y/z?q=1 \t \r\n \n\n \u00a0 "
    "!!! ... --- /// ?! return if(x){y} token tokens prefill decode router expert experts"
).split(" ")
ODD = [0x180E, 0x200B, 0x17F, 0x212A, 0x85, 0xA0, 0x3000, 0xFEFF, 0x130, 0x131, 0xDF, 0x1C5, 0x2B0,
       0x10FFFF, 0xE0100, 0x1C, 0x1F, 0x7F, 0]
random_source = random.Random(20)


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(O200K), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    text = [" ".join(random_source.choices(WORDS, k=20)) for _ in range(400)]
    text += ["    " * n + "\n" * n for n in range(1, 8)] * 5
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens([
        AddedToken(s, special=s in SPECIAL, normalized=False) for s in SPECIAL + PLAIN])
    return tokenizer


def odd_character():
    ranges = [(0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x30000),
              (0x1F300, 0x1FB00), (0x300, 0x370), (0x2000, 0x2070)]
    while True:
        code = random_source.choice([random_source.randrange(*random_source.choice(ranges)),
                                     random_source.choice(ODD)])
        # Characters younger than the oldest Unicode version in use would test that version.
        databases = (unicodedata, unicodedata.ucd_3_2_0)
        if all(database.category(chr(code)) != "Cn" for database in databases):
            return chr(code)


def piece():
    r = random_source
    kind = r.randrange(13)
    if kind == 0:
        return "".join(chr(r.randrange(32, 127)) for _ in range(r.randrange(1, 12)))
    if kind == 1:
        return "".join(odd_character() for _ in range(r.randrange(1, 6)))
    if kind == 2:
        return r.choice(" \n\r\t\v\f/\u2028") * r.randrange(1, 6)
    if kind == 3:
        return r.choice(SPECIAL + PLAIN)
    if kind == 4:
        return r.choice(SPECIAL + PLAIN)[: r.randrange(1, 9)]
    if kind == 5:
        return r.choice("aA1 \u4e2d\u00e9\u0301\n!'/") * r.randrange(1, 50)
    if kind == 6:
        letters = "aAbZ\u00e9\u0301\u02b0\u4e2d\u01c5's\u017f "
        return "".join(r.choice(letters) for _ in range(r.randrange(1, 14)))
    if kind == 7:
        return "".join(r.choice(" \n\r\t/x.") for _ in range(r.randrange(1, 10)))
    return r.choice(WORDS) + r.choice(["", " "])


def cases(tokenizer, count):
    result = []
    for _ in range(count):
        text = "".join(piece() for _ in range(random_source.randrange(0, 12)))
        plain = random_source.random() < 0.25
        tokenizer.encode_special_tokens = plain
        result.append({"text": text, "plain": plain,
                       "ids": tokenizer.encode(text, add_special_tokens=False).ids})
    return result


def variant(base, name, change):
    description = copy.deepcopy(base)
    change(description)
    tokenizer = Tokenizer.from_str(json.dumps(description))
    patch = {key: description[key] for key in description
             if description[key] != base[key] and key != "model"}
    model = {key: value for key, value in description["model"].items()
             if value != base["model"].get(key)}
    return {"name": name, "patch": patch, "model_patch": model, "cases": cases(tokenizer, 40)}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def set_steps(*steps):
    def change(description):
        description["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(steps)}
    return change


def strip(description):
    description["added_tokens"][0]["lstrip"] = True
    description["added_tokens"][1]["rstrip"] = True
    description["added_tokens"][4].update(lstrip=True, rstrip=True)


def main():
    tokenizer = train()
    tokenizer.save(str(HERE / "tokenizer.json"))
    base = json.loads((HERE / "tokenizer.json").read_text())
    # One merge per line would be 2,000 lines.
    (HERE / "tokenizer.json").write_text(json.dumps(base, ensure_ascii=False) + "\n")
    variants = [
        variant(base, "GPT-2's own pattern",
                lambda d: d.update(pre_tokenizer=byte_level(True))),
        variant(base, "no pattern", lambda d: d.update(pre_tokenizer=byte_level(False))),
        variant(base, "digits, then words, then the rest",
                set_steps(split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f]+"),
                          split(r"[^\s\p{L}]?\p{L}+| ?\p{P}+|\s+(?!\S)|\s+"), byte_level(False))),
        variant(base, "matches kept, gaps dropped",
                set_steps(split(r"\p{L}+|\d+|\s", "Removed", True), byte_level(False))),
        variant(base, "lines", set_steps(split(r"^[^\n]+$"), byte_level(True))),
        variant(base, "whole words first", lambda d: d["model"].update(ignore_merges=True)),
        variant(base, "added tokens that swallow white space", strip),
    ]
    result = {"cases": cases(tokenizer, 300), "variants": variants}
    (HERE / "tokenizer_cases.json").write_text(json.dumps(result, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
