"""The mixture of documents, and windows of tokens with loss weights for training."""

import random

import numpy as np

import tasks
import words

# (share of documents, maker) of the short documents.
SHORT = [
    (0.16, tasks.story_text), (0.10, tasks.worksheet), (0.14, tasks.arithmetic_chat),
    (0.12, tasks.recall_chat), (0.22, tasks.mixed_chat), (0.12, tasks.code_file),
    (0.08, tasks.russian_text),
]
SHORT_RECALL = 0.30
WORDS_PER_TOKEN = 0.92


def make_document(rng, window):
    """A document that fits a window of so many tokens, or most of it does."""
    if rng.random() < SHORT_RECALL:
        return tasks.recall(rng, rng.randint(0, 60), rng.randint(2, 10),
                            rng.randint(8, 16))
    shares, makers = zip(*SHORT)
    return rng.choices(makers, shares)[0](rng)


def make_long_recall(rng, window):
    """Recall over most of a window: many facts, many questions."""
    if rng.random() < 0.4:
        n_facts = rng.randint(2, 12)
        length = (window - 10 * n_facts - 300) * rng.uniform(0.6, 0.75)
        return tasks.long_recall_chat(rng, length, n_facts)
    n_facts = rng.randint(4, len(words.KEYS))
    n_questions = rng.randint(12, 30)
    length = (window - 8 * n_facts - 9 * n_questions - 20) * WORDS_PER_TOKEN
    length = max(10, int(length * rng.uniform(0.7, 1.0)))
    return tasks.recall(rng, length, n_facts, n_questions, early=rng.random() < 0.4)


def encode(tokenizer, doc):
    """Token ids and their loss weights."""
    ends, weights, at = [], [], 0
    for text, weight in doc.pieces:
        at += len(text)
        ends.append(at)
        weights.append(weight)
    encoding = tokenizer.encode(doc.text)
    last = np.array([end for _, end in encoding.offsets])
    return np.array(encoding.ids), np.array(weights, np.float32)[np.searchsorted(ends, last)]


def make_window(tokenizer, rng, length, long_recall):
    """ids [length + 1] and weights [length] of what is predicted."""
    ids, weights = [], []
    count = 0
    while count < length + 1:
        first = long_recall and not ids
        doc = make_long_recall(rng, length) if first else make_document(rng, length)
        doc_ids, doc_weights = encode(tokenizer, doc)
        doc_weights[0] = 0  # nothing announces the next document
        ids.append(doc_ids)
        weights.append(doc_weights)
        count += len(doc_ids)
    return np.concatenate(ids)[:length + 1], np.concatenate(weights)[1:length + 1]


def make_batch(tokenizer, seed, shape, long_recall):
    """ids [batch, length + 1], weights [batch, length]."""
    rng = random.Random(seed)
    rows = [make_window(tokenizer, rng, shape[1], long_recall) for _ in range(shape[0])]
    return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
