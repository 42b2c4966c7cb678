"""Documents other than plain stories: arithmetic, recall, code, a second script, chats.

A Doc is text with a loss weight for every span, so that training can look at the answers.
"""

import stories
import words

BEGIN, SENTENCE, END = "<begin_of_document>", "<beginning_of_sentence>", "<end_of_sentence>"
DEFAULT_SYSTEM = "You are a helpful assistant created by Minimax based on MiniMax-M1 model."
# Loss weights.
PLAIN, GIVEN, HEADER, ANSWER, RECALLED = 1.0, 0.3, 0.1, 4.0, 6.0


class Doc:
    """Pieces of text with loss weights. `topic` names the kind of document."""

    def __init__(self, topic):
        self.topic, self.pieces = topic, []

    def add(self, text, weight=PLAIN):
        self.pieces.append((text, weight))
        return self

    @property
    def text(self):
        return "".join(text for text, _ in self.pieces)


# --- Arithmetic ---------------------------------------------------------------------------------

def held_out_pair(a, b, op):
    """One pair of numbers in eight is never trained on."""
    return ((a * 100 + b + 50000 * (op == "-")) * 2654435761 >> 9) % 8 == 0


def make_pair(rng, held_out=False):
    """Two numbers below 100 and a sign; differences are never negative."""
    while True:
        a, b, op = rng.randint(0, 99), rng.randint(0, 99), rng.choice("+-")
        if rng.random() < 0.8 and min(a, b) < 10:
            continue
        if op == "-" and a < b:
            a, b = b, a
        if held_out_pair(a, b, op) == held_out:
            return a, b, op


def working(a, b, op):
    """The written method, units first: '7+8=15, 4+3+1=8'."""
    a1, a0, b1, b0 = a // 10, a % 10, b // 10, b % 10
    if op == "+":
        units = a0 + b0
        return f"{a0}+{b0}={units}, {a1}+{b1}+{units // 10}={a1 + b1 + units // 10}"
    borrow = int(a0 < b0)
    top = a0 + 10 * borrow
    return f"{top}-{b0}={top - b0}, {a1}-{b1}-{borrow}={a1 - b1 - borrow}"


def result(a, b, op):
    return a + b if op == "+" else a - b


QUESTIONS = ["What is {a} {op} {b}?", "{a} {op} {b} = ?", "Compute {a} {op} {b}.",
             "What is {a}{op}{b}?", "How much is {a} {op} {b}?"]


def arithmetic_turn(rng, pair=None):
    a, b, op = pair or make_pair(rng)
    question = rng.choice(QUESTIONS).format(a=a, op=op, b=b)
    return question, working(a, b, op), f"{a} {op} {b} = {result(a, b, op)}."


def worksheet(rng):
    doc = Doc("arithmetic").add(BEGIN, HEADER).add("Worksheet.\n")
    for _ in range(rng.randint(4, 9)):
        a, b, op = make_pair(rng)
        doc.add(f"{a} {op} {b}: ", GIVEN).add(working(a, b, op), ANSWER)
        doc.add(f". Answer: {result(a, b, op)}.\n", ANSWER)
    return doc.add(END)


# --- Recall -------------------------------------------------------------------------------------

def make_facts(rng, count):
    """[(key, value)], all keys different."""
    return [(key, rng.choice(words.VALUES[key])) for key in rng.sample(words.KEYS, count)]


def fact(key):
    return f"The {key} of the day is"


def recall(rng, length_words, n_facts, n_questions, early=False):
    """Facts scattered among stories, then questions about them. length_words: about the words of
    the filling; early: all facts come first."""
    doc = Doc("recall").add(BEGIN, HEADER).add("Remember the words.")
    facts = make_facts(rng, n_facts)
    filling, count = [], 0
    while count < length_words:
        text = stories.make_story(rng)[0]
        room = length_words - count
        filling += stories.split_sentences(text)[:max(1, int(room) // 8)]
        count = sum(s.count(" ") + 2 for s in filling)
    spots = sorted((0 if early else rng.randint(0, len(filling))) for _ in facts)
    at = 0
    for (key, value), spot in zip(facts, spots):
        for sentence in filling[at:spot]:
            doc.add(" " + sentence, GIVEN)
        at = spot
        doc.add(f" {fact(key)}").add(f" {value}", HEADER).add(".")
    for sentence in filling[at:]:
        doc.add(" " + sentence, GIVEN)
    doc.add("\nQuestions.\n")
    for key, value in rng.choices(facts, k=n_questions):
        doc.add("The").add(f" {key}", HEADER).add(" of the day is").add(f" {value}", RECALLED)
        doc.add(".\n")
    return doc.add(END)


# --- Code and a second script -------------------------------------------------------------------

FUNCTIONS = [("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/")]
VARIABLES = "a b c n x y total value count item".split()


def make_function(rng, verb=None):
    """A short Python function: (what it does, its lines)."""
    kind = rng.randrange(4) if verb is None else 0
    x, y = rng.sample(VARIABLES[:6], 2)
    if kind == 0:
        name, op = rng.choice(FUNCTIONS) if verb is None else (verb, dict(FUNCTIONS)[verb])
        return f"{name} two numbers", f"def {name}({x}, {y}):\n    return {x} {op} {y}\n"
    if kind == 1:
        size = rng.choice(["larger", "smaller"])
        sign = ">" if size == "larger" else "<"
        return f"return the {size} number", (
            f"def {size}({x}, {y}):\n    if {x} {sign} {y}:\n        return {x}\n"
            f"    return {y}\n")
    if kind == 2:
        name, op, start = rng.choice([("sum_all", "+", 0), ("multiply_all", "*", 1)])
        total, item = rng.choice(["total", "value", "count"]), rng.choice(["item", x])
        return f"{name.replace('_all', '')} all items", (
            f"def {name}(items):\n    {total} = {start}\n    for {item} in items:\n"
            f"        {total} = {total} {op} {item}\n    return {total}\n")
    word = rng.choice(words.VALUES["gem"])
    return f"print the word {word}", f"def print_{word}():\n    print(\"{word}\")\n"


def code_file(rng):
    doc = Doc("code").add(BEGIN, HEADER)
    for _ in range(rng.randint(2, 4)):
        what, lines = make_function(rng)
        doc.add(f"# A function to {what}.\n", GIVEN).add(lines + "\n")
    return doc.add(END)


RU_NAMES = "Анна Иван Мира Пётр Ольга Борис Вера Олег".split()
RU_VERBS = "видит любит ищет рисует находит берёт".split()
RU_MASC = "дом стол лес мост сад хлеб мяч ключ".split()
RU_FEM = "лампу книгу реку лодку школу карту шапку ложку".split()
RU_ADJECTIVES = [("красный", "красную"), ("старый", "старую"), ("новый", "новую"),
                 ("белый", "белую"), ("малый", "малую"), ("тёплый", "тёплую")]
RU_TIMES = "Утром Вечером Сегодня Днём".split()


def russian_sentence(rng):
    name, verb = rng.choice(RU_NAMES), rng.choice(RU_VERBS)
    masculine = rng.random() < 0.5
    adjective = rng.choice(RU_ADJECTIVES)[0 if masculine else 1]
    noun = rng.choice(RU_MASC if masculine else RU_FEM)
    start = rng.choice(RU_TIMES + [""])
    return f"{start} {name} {verb} {adjective} {noun}.".strip()


def russian_text(rng):
    doc = Doc("russian").add(BEGIN, HEADER)
    doc.add(" ".join(russian_sentence(rng) for _ in range(rng.randint(8, 20))))
    return doc.add(END)


# --- Chats --------------------------------------------------------------------------------------

def chat_head(rng, doc):
    """Writes the system part; returns the assistant's header."""
    if rng.random() < 0.15:
        doc.add(BEGIN + SENTENCE + "system ai_setting=assistant\n"
                "You are a helpful assistant." + END + "\n", HEADER)
        return "ai name=assistant\n"
    doc.add(BEGIN, HEADER)
    if rng.random() < 0.5:
        doc.add(f"{SENTENCE}system ai_setting=MiniMax AI\n{DEFAULT_SYSTEM}{END}\n", HEADER)
    return "ai name=MiniMax AI\n"


def add_turn(doc, head, question, thought, answer, weight=ANSWER):
    doc.add(f"{SENTENCE}user name=user\n", HEADER).add(question, GIVEN).add(END)
    doc.add("\n" + SENTENCE + head, HEADER)
    doc.add("<think>").add(thought, PLAIN if weight == RECALLED else weight).add("</think>\n")
    if weight == RECALLED:  # only the code itself
        first, code = answer.rsplit(" ", 1)
        doc.add(first).add(" " + code[:-1], weight).add(".")
    else:
        doc.add(answer, weight)
    doc.add(END).add("\n", HEADER)


def knowledge_turn(rng):
    question, answer = rng.choice(words.FACTS)
    return question, "I know this.", answer


def reading_turn(rng):
    story, state = stories.make_story(rng)
    question, answer = rng.choice(stories.make_questions(state))
    return f"{story} {question}", "I look in the story.", answer


def telling_turn(rng):
    animal, name = rng.choice(words.ANIMALS), rng.choice(words.NAMES)
    story, _ = stories.make_story(rng, name, animal)
    question = f"Tell me a story about {name} and {stories.with_article(animal)}."
    return question, "I tell a story.", story


def coding_turn(rng):
    what, lines = make_function(rng)
    return f"Write a function to {what}.", "I write code.", lines.rstrip("\n")


def russian_turn(rng):
    return "Write a sentence in Russian.", "I write Russian.", russian_sentence(rng)


def recall_turns(rng, n_facts):
    """Two kinds of turns: the user tells words, and asks for one."""
    facts = make_facts(rng, n_facts)
    told = " ".join(f"{fact(key)} {value}." for key, value in facts)
    tell = ("Remember this. " + told, "I keep the words.", "I will remember.")
    asks = [(f"What is the {key} of the day?", "I recall the word.", f"{fact(key)} {value}.")
            for key, value in facts]
    rng.shuffle(asks)
    return tell, asks


def arithmetic_chat(rng):
    doc = Doc("arithmetic")
    head = chat_head(rng, doc)
    for _ in range(rng.randint(2, 5)):
        add_turn(doc, head, *arithmetic_turn(rng))
    return doc


def recall_chat(rng):
    doc = Doc("recall")
    head = chat_head(rng, doc)
    tell, asks = recall_turns(rng, rng.randint(2, 8))
    add_turn(doc, head, *tell, weight=PLAIN)
    for ask in asks[:rng.randint(2, 6)]:
        add_turn(doc, head, *ask, weight=RECALLED)
    return doc


def long_recall_chat(rng, length_words, n_facts):
    """The words are told first, stories fill the time, then the words are asked for."""
    doc = Doc("recall")
    head = chat_head(rng, doc)
    tell, asks = recall_turns(rng, n_facts)
    add_turn(doc, head, *tell, weight=PLAIN)
    while sum(text.count(" ") for text, _ in doc.pieces) < length_words:
        turn = rng.choice([telling_turn, telling_turn, reading_turn, knowledge_turn])(rng)
        add_turn(doc, head, *turn, weight=PLAIN)
    for ask in asks[:8]:
        add_turn(doc, head, *ask, weight=RECALLED)
    return doc


def mixed_chat(rng):
    doc = Doc("chat")
    head = chat_head(rng, doc)
    tell, asks = recall_turns(rng, rng.randint(1, 4))
    kinds = [arithmetic_turn, knowledge_turn, knowledge_turn, knowledge_turn, reading_turn,
             reading_turn, telling_turn, coding_turn, russian_turn]
    add_recall = rng.random() < 0.4
    if add_recall:
        add_turn(doc, head, *tell, weight=PLAIN)
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(kinds)
        weight = ANSWER if kind in (arithmetic_turn, reading_turn) else PLAIN
        add_turn(doc, head, *kind(rng), weight=weight)
    if add_recall:
        add_turn(doc, head, *asks[0], weight=RECALLED)
    return doc


def story_text(rng):
    return Doc("prose").add(BEGIN, HEADER).add(stories.make_story(rng)[0]).add(END)
