"""Stories from a grammar, and the checker that belongs to it.

A story is a list of sentences; each sentence is a template with typed slots. The checker turns the
same templates into regular expressions and also holds what a template alone does not: pronouns
agree with the hero, only introduced names occur, and the thing keeps its colour.
"""

import re

import words

SLOTS = {
    "N": words.NAMES, "F": words.PET_NAMES, "animal": words.ANIMALS, "place": words.PLACES,
    "place2": words.PLACES, "obj": words.OBJECTS, "colour": words.COLOURS,
    "trait": words.TRAITS, "mood": words.MOODS, "mood2": words.MOODS,
    "padj": words.PLACE_ADJECTIVES, "padj2": words.PLACE_ADJECTIVES, "home": words.HOMES,
    "hobby": words.HOBBIES, "relative": words.RELATIVES, "time": words.TIMES,
    "weather": words.WEATHER, "hiding": words.HIDING, "hiding2": words.HIDING,
    "kid": ["girl", "boy"], "p": ["she", "he"], "P": ["She", "He"], "poss": ["her", "his"],
    "Poss": ["Her", "His"],
}

OPENINGS = [
    "Once upon a time there was a {trait} {kid} named {N}.",
    "{N} was a {trait} {kid} who lived {home}.",
    "This is a story about {N}, a {trait} {kid}.",
    "Long ago a {trait} {kid} named {N} lived {home}.",
]
HABITS = [
    "{P} lived with {poss} {relative} and liked to {hobby}.",
    "Every {time} {p} liked to {hobby}.",
    "{Poss} {relative} gave {N} a {colour} {obj}.",
    "{N} had a {colour} {obj} and took it everywhere.",
    "When {weather}, {p} liked to {hobby}.",
]
LOSSES = [
    "One {time} {N} lost the {colour} {obj}.",
    "One {time} {weather}, and the {colour} {obj} was gone.",
    "One {time} {p} could not find the {colour} {obj}.",
    "One {time} {N} went to the {place} and forgot the {colour} {obj} there.",
]
SEARCHES = [
    "{P} looked {hiding} and {hiding2}, but found nothing.",
    "{N} went to the {place}, but the {obj} was not there.",
    "The {place} was {padj} and {padj2}.",
    "{P} was {mood}, but did not stop.",
    "So {p} walked to the {place} and looked {hiding}.",
]
MEETINGS = [
    "There {p} met {a_animal} named {F}.",
    "Near the {place} {p} met {a_animal} named {F}.",
    "Then {a_animal} named {F} came out of the {place}.",
]
TALKS = [
    "\"Can you help me?\" asked {N}.",
    "\"I lost a {colour} {obj},\" said {N}.",
    "\"Why are you so {mood}?\" asked {F}.",
    "\"I saw it near the {place2},\" said {F}.",
    "\"Do not worry, {N},\" said the {animal}.",
    "\"Let us look {hiding},\" said {F}.",
]
FINDINGS = [
    "Together they went to the {place2}, and there was the {colour} {obj}.",
    "{F} looked {hiding} and found the {colour} {obj}.",
    "At last they saw the {colour} {obj} {hiding}.",
    "The {animal} knew the way, and soon {N} had the {colour} {obj} again.",
]
ENDINGS = [
    "{N} was very {mood} and thanked {F}.",
    "\"Thank you, {F},\" said {N}.",
    "From that day on, {N} and {F} were friends.",
    "{P} went home and told {poss} {relative} about the {animal}.",
    "They played together until it was {time}.",
    "That {time} {N} and {F} were {mood} and {mood2}.",
    "{Poss} {relative} laughed and gave {F} some bread.",
]
ALL = OPENINGS + HABITS + LOSSES + SEARCHES + MEETINGS + TALKS + FINDINGS + ENDINGS
# (templates, fewest, most) in the order of a story.
PLOT = [(OPENINGS, 1, 1), (HABITS, 1, 2), (LOSSES, 1, 1), (SEARCHES, 1, 3), (MEETINGS, 1, 1),
        (TALKS, 2, 3), (FINDINGS, 1, 1), (ENDINGS, 1, 3)]
# Slots that stay the same through a story.
FIXED = ["N", "F", "animal", "obj", "colour", "place2", "relative"]


def with_article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def _hero(rng, name=None):
    name = name or rng.choice(words.NAMES)
    girl = name in words.GIRLS
    pick = (lambda pair: pair[0]) if girl else (lambda pair: pair[1])
    return {"N": name, **{s: pick(SLOTS[s]) for s in ("kid", "p", "P", "poss", "Poss")}}


def _fill(rng, template, state):
    values = dict(state)
    for slot in re.findall(r"{(\w+)}", template):
        if slot not in values:
            values[slot] = rng.choice(SLOTS[slot])
    if values.get("padj2") == values.get("padj"):
        values["padj2"] = rng.choice([w for w in SLOTS["padj"] if w != values.get("padj")])
    return template.format(**values), values


def make_story(rng, name=None, animal=None):
    """One story: (text, what a reader could be asked about)."""
    state = _hero(rng, name)
    for slot in FIXED[1:]:
        state[slot] = rng.choice(SLOTS[slot])
    state["animal"] = animal or state["animal"]
    state["a_animal"] = with_article(state["animal"])
    sentences = []
    for templates, fewest, most in PLOT:
        for template in rng.sample(templates, rng.randint(fewest, most)):
            sentence, values = _fill(rng, template, state)
            sentences.append(sentence)
            if templates is MEETINGS:
                state["met"] = values
    return " ".join(sentences), state


def make_questions(state):
    """(question, answer) pairs about a story, from its state."""
    name, friend = state["N"], state["F"]
    return [
        (f"Who did {name} meet?", f"{name} met {state['a_animal']} named {friend}."),
        (f"What did {name} lose?", f"{name} lost the {state['colour']} {state['obj']}."),
        (f"What colour was the {state['obj']}?", f"The {state['obj']} was {state['colour']}."),
        (f"What animal was {friend}?", f"{friend} was {state['a_animal']}."),
    ]


def _pattern(template):
    out = ""
    for part in re.split(r"({\w+})", template):
        if not part.startswith("{"):
            out += re.escape(part)
            continue
        slot = part[1:-1]
        choices = ([with_article(w) for w in words.ANIMALS] if slot == "a_animal"
                   else SLOTS[slot])
        out += f"(?P<{slot}>" + "|".join(re.escape(c) for c in choices) + ")" \
            if f"(?P<{slot}>" not in out else f"(?P={slot})"
    return re.compile(out)


PATTERNS = [_pattern(t) for t in ALL]


def split_sentences(text):
    """Sentences end in a full stop, or a question mark inside quotes that the template goes on
    after."""
    return [s for s in re.split(r"(?<=\.) (?=[\"A-Z])", text.strip()) if s]


def check_sentence(sentence, state):
    """Whether the sentence is of the grammar and agrees with what came before; updates state."""
    for pattern in PATTERNS:
        match = pattern.fullmatch(sentence)
        if not match:
            continue
        found = match.groupdict()
        if "a_animal" in found:
            found["animal"] = found.pop("a_animal").split(" ", 1)[1]
        name = found.get("N", state.get("N"))
        girl = name in words.GIRLS
        for slot in ("kid", "p", "P", "poss", "Poss"):
            if slot in found and found[slot] != SLOTS[slot][0 if girl else 1]:
                return False
        for slot in ("N", "F", "animal", "obj", "colour"):
            if slot in found and state.setdefault(slot, found[slot]) != found[slot]:
                return False
        return True
    return False


def check_story(text):
    """(grammatical sentences, all sentences) of a story."""
    state, good = {}, 0
    sentences = split_sentences(text)
    for sentence in sentences:
        good += check_sentence(sentence, state)
    return good, len(sentences)
