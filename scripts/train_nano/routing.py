#!/usr/bin/env python3
"""What the routers have learnt, from held-out documents by topic.

usage: routing.py MODEL_DIRECTORY TOPICS [--json OUT]

TOPICS is what topics.py wrote. Per layer: the least used expert's share of the assignments, the
entropy of the shares (log2 32 = 5 bits when even), the mutual information of topic and expert in
bits beside the mean of shuffled topics, and how often an expert of a token was one of the token
before, beside what the shares alone give.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import reference

SHUFFLES = 20


class Recorder:
    """Runs documents and keeps the router's choices."""

    def __init__(self, model):
        self.model, self.choices = reference.Reference(model), []
        for layer in self.model.net.model.layers:
            layer.mlp.gate.register_forward_hook(
                lambda module, inputs, outputs: self.choices.append(outputs[2].numpy()))

    def run(self, text):
        """[layers, tokens, top_k]."""
        self.choices.clear()
        self.model.logits(self.model.tokenizer.encode(text).ids)
        return np.stack(self.choices)


def counts_of(choices, n_experts):
    """[layers, experts]."""
    return np.stack([np.bincount(c.ravel(), minlength=n_experts) for c in choices])


def entropy(p):
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def information(counts, topics):
    """Mutual information of topic and expert, topics counted alike; counts [documents, experts]."""
    joint = np.stack([counts[topics == t].sum(0) for t in np.unique(topics)]).astype(float)
    joint /= joint.sum(1, keepdims=True) * len(joint)
    return entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint.ravel())


def repetition(documents, layer, share):
    """(measured, chance): the part of a token's experts that the token before had too."""
    same, every = 0, 0
    for choices in documents:
        now, before = choices[layer, 1:], choices[layer, :-1]
        same += (now[:, :, None] == before[:, None, :]).any(-1).sum()
        every += now.size
    in_set = share * documents[0].shape[2]  # probability that a token has the expert
    return same / every, float((in_set ** 2).sum() / documents[0].shape[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("topics", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    recorder = Recorder(args.model)
    files = sorted(args.topics.glob("*/*.txt"))
    topics = np.array([file.stem.rsplit("-", 1)[0] for file in files])
    documents = [recorder.run(file.read_text()) for file in files]
    n_experts = recorder.model.net.config.num_local_experts
    counts = np.stack([counts_of(d, n_experts) for d in documents])  # [documents, layers, experts]
    rng, out = np.random.default_rng(1), []
    for layer in range(counts.shape[1]):
        share = counts[:, layer].sum(0) / counts[:, layer].sum()
        shuffled = [information(counts[:, layer], rng.permutation(topics))
                    for _ in range(SHUFFLES)]
        measured, chance = repetition(documents, layer, share)
        out.append({"layer": layer, "least_share": float(share.min()),
                    "largest_share": float(share.max()), "entropy_bits": entropy(share),
                    "topic_information_bits": information(counts[:, layer], topics),
                    "shuffled_information_bits": float(np.mean(shuffled)),
                    "repetition": float(measured), "repetition_chance": chance})
    for row in out:
        print(" ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}"
                       for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
