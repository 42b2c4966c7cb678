#!/usr/bin/env python3
"""Trains M1-nano's tokenizer: byte-level BPE with M1's special tokens and pre-tokenizer.

usage: tokenizer.py OUT.json

No merge contains a digit, so numbers are single digits. Ids: bytes and merges, then the special
tokens; the rest of the vocabulary exists in the embedding only, as in the released model.
"""

import random
import re
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus

VOCABULARY = 2048
SPARE = 16  # ids without a token
SPECIAL = ["<beginning_of_sentence>", "<end_of_sentence>", "<end_of_document>",
           "<begin_of_document>", "<function_call>", "<code_interpreter>", "<fim_prefix>",
           "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<reponame>", "<filename>"]
ADDED = ["<think>", "</think>", "<tool_calls>", "</tool_calls>"]  # text, not control
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# The split of the o200k family: words, runs of one to three digits, punctuation, spaces.
PATTERN = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+{SUFFIX}",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*{SUFFIX}",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def new_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sample_text(n_documents=12000, seed=7):
    """Documents without digits and special tokens."""
    rng = random.Random(seed)
    special = re.compile("|".join(map(re.escape, SPECIAL + ADDED)) + "|[0-9]+")
    for _ in range(n_documents):
        yield special.sub("", corpus.make_document(rng, 256).text)


def main():
    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - SPARE - len(SPECIAL) - len(ADDED), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sample_text(), trainer)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tokenizer.add_tokens([AddedToken(s, special=False, normalized=False) for s in ADDED])
    tokenizer.save(sys.argv[1])
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
