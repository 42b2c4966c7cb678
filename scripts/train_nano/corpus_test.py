#!/usr/bin/env python3
"""The generator keeps its own rules: stories pass the checker and spoilt ones do not, written
methods are right, held-out pairs stay out. Needs nothing but Python."""

import random
import re
import unittest

import stories
import tasks
import words


class Stories(unittest.TestCase):
    def test_every_story_is_grammatical(self):
        rng = random.Random(1)
        for _ in range(500):
            text, _ = stories.make_story(rng)
            good, every = stories.check_story(text)
            self.assertEqual(good, every, text)

    def spoil(self, old, new):
        rng = random.Random(2)
        found = 0
        for _ in range(200):
            text, _ = stories.make_story(rng, "Mira", "owl")
            if old in text:
                good, every = stories.check_story(text.replace(old, new, 1))
                self.assertLess(good, every, text)
                found += 1
        self.assertGreater(found, 10)

    def test_wrong_pronoun(self):
        self.spoil(" her ", " his ")

    def test_wrong_article(self):
        self.spoil("an owl", "a owl")

    def test_unknown_name(self):
        self.spoil('said Mira.', 'said Nobody.')

    def test_answers_are_in_the_story(self):
        text, state = stories.make_story(random.Random(3))
        for _, answer in stories.make_questions(state):
            self.assertIn(answer.rstrip(".").split()[-1], text)


class Tasks(unittest.TestCase):
    def test_working(self):
        for a in range(100):
            for b in range(100):
                for op in "+-":
                    if op == "-" and a < b:
                        continue
                    lines = tasks.working(a, b, op)
                    for left, right in re.findall(r"([\d+-]+)=(\d+)", lines):
                        self.assertEqual(eval(left), int(right))
                    units, tens = (int(r) for r in re.findall(r"=(\d+)", lines))
                    self.assertEqual(tens * 10 + units % 10, tasks.result(a, b, op))

    def test_held_out_pairs(self):
        rng = random.Random(4)
        for _ in range(2000):
            self.assertFalse(tasks.held_out_pair(*tasks.make_pair(rng)))
            self.assertTrue(tasks.held_out_pair(*tasks.make_pair(rng, held_out=True)))
        share = sum(tasks.held_out_pair(a, b, "+") for a in range(100) for b in range(100)) / 1e4
        self.assertAlmostEqual(share, 1 / 8, delta=0.02)

    def test_recall_asks_what_was_told(self):
        rng = random.Random(5)
        for _ in range(50):
            told, asked = tasks.recall(rng, 100, 6, 8).text.split("Questions.")
            for fact in re.findall(r"The \w+ of the day is \w+\.", asked):
                self.assertIn(fact, told)

    def test_words_are_different(self):
        for name in ("NAMES", "PET_NAMES", "ANIMALS", "PLACES", "OBJECTS"):
            listed = getattr(words, name)
            self.assertEqual(len(listed), len(set(listed)), name)
        values = [value for of_key in words.VALUES.values() for value in of_key]
        self.assertEqual(len(values), len(set(values)))
        rng = random.Random(6)
        told = {word for _ in range(300) for word in re.findall(r"\w+", stories.make_story(rng)[0])}
        self.assertFalse(told & set(values))


if __name__ == "__main__":
    unittest.main()
