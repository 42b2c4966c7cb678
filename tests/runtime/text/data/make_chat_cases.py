#!/usr/bin/env python3
"""Conversations rendered by jinja2 from the templates beside this file.

    make_chat_cases.py                writes chat_cases.json here: a stored sample for the unit test
    make_chat_cases.py --check TOOL   compares 400 random ones with TOOL (render_chat), byte for byte

Jinja is set up as Hugging Face does (trim_blocks, lstrip_blocks, tojson without ASCII escapes).
Exits with 4, which ctest shows as skipped, where jinja2 is not installed.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

try:
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    print("skipped: Python has no jinja2 (Debian: python3-jinja2)")
    sys.exit(4)

HERE = Path(__file__).parent
TEXTS = [
    "", " ", "\n", "Hello", "  Hello, world!  ", "line one\nline two\n", "\t tabs\t", "\u4f60\u597d\uff0c\u4e16\u754c",
    "\u3000\u5168\u89d2\u7a7a\u767d\u3000", "\u00a0nbsp\u00a0", "\x1cseparators\x1f", "\u200bzero width\u200b",
    "emoji \U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467", "<think>\nhm\n</think>\n\nanswer", "a <end_of_sentence> b",
    "{{ 7 * 7 }} {% raw %}", "quotes \" and ' and \\ and \x07", "caf\u00e9 \u0301", "code:\n```c\nint x = 1;\n```\n", "x" * 300,
    "</tool_calls>", "\u2028lines\u2029", "\ufeffbom", "&<>'\"",
]
VALUES = [
    None, True, False, 0, -1, 7, 2**31, 2**53, 2**63 - 1, -(2**63), 0.5, -0.25, 1.0, 0.1, 1e-5, 1e16, 1e15, 123456789.125,
    1.5e300, 5e-324, 0.0001, 3.141592653589793, "", "text", "\u4e2d\u6587", "tab\tquote\"", "\x01\x1f\x7f", [], {},
]


def text(r):
    return r.choice(TEXTS) if r.random() < 0.8 else r.choice(TEXTS) + r.choice(TEXTS)


def value(r, depth=0):
    kind = r.random()
    if depth < 3 and kind < 0.15:
        return [value(r, depth + 1) for _ in range(r.randrange(4))]
    if depth < 3 and kind < 0.35:
        return {r.choice(["b", "a", "\u57ce\u5e02", "with space", "q\"", ""]) + str(i): value(r, depth + 1)
                for i in range(r.randrange(4))}
    return r.choice(VALUES)


def parts(r, role):
    result = []
    for _ in range(r.randrange(1, 4)):
        part = {"type": "text" if r.random() < 0.8 else "image", "text": text(r)}
        if role == "tool":
            part["type"] = r.choice(["text", "tool", "other"])
            part["name"] = r.choice(["search_web", "\u5929\u6c14", "a b", "get_weather"])
        result.append(part)
    return result


def tool(r):
    return {"type": "function", "function": {
        "name": r.choice(["search_web", "get_weather"]), "description": text(r),
        "parameters": {"type": "object", "properties": value(r), "required": ["city"]}}}


def conversation(r):
    messages = []
    for _ in range(r.choice([0, 0, 1, 1, 1, 2, 3])):
        messages.append({"role": "system", "content": text(r) if r.random() < 0.6 else parts(r, "system")})
    for _ in range(r.randrange(0, 7)):
        role = r.choice(["user", "user", "assistant", "assistant", "tool", "system"])
        message = {"role": role, "content": text(r) if r.random() < 0.6 else parts(r, role)}
        if role == "assistant" and r.random() < 0.4:
            message["tool_calls"] = [
                {"type": "function", "id": "1",
                 "function": {"name": r.choice(["search_web", "get_weather"]), "arguments": value(r)}}
                for _ in range(r.randrange(1, 3))]
            for call in message["tool_calls"]:
                if isinstance(call["function"]["arguments"], str):
                    call["function"]["arguments"] = {"text": call["function"]["arguments"]}
        messages.append(message)
    if not messages:
        messages.append({"role": "user", "content": text(r)})
    tools = r.choice([None, None, [], [tool(r)], [tool(r), value(r), tool(r)]])
    return {"messages": messages, "tools": tools, "add_generation_prompt": r.random() < 0.8}


def as_lists(messages):
    """The vendor's template wants lists, and tool results with names."""
    result = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if message["role"] == "tool":
            content = [{"name": "", **part} for part in content]
        result.append({**message, "content": content})
    return result


class Renderer:
    def __init__(self):
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self.templates = {name: environment.from_string((HERE / f"{name}.jinja").read_text())
                          for name in ("minimax-m1", "vendor")}

    def __call__(self, name, case):
        messages = as_lists(case["messages"]) if name == "vendor" else case["messages"]
        return self.templates[name].render(**{**case, "messages": messages})


def make(seed, count):
    r = random.Random(seed)
    render = Renderer()
    cases = []
    for _ in range(count):
        case = conversation(r)
        cases.append({**case, "expected": {name: render(name, case) for name in render.templates}})
    return cases


def check(tool_path):
    seed = random.randrange(2**32)
    cases = make(seed, 400)
    answer = subprocess.run([tool_path], input=json.dumps(cases, ensure_ascii=False).encode(),
                            stdout=subprocess.PIPE, check=True)
    rendered = json.loads(answer.stdout)
    wrong = 0
    for case, ours in zip(cases, rendered, strict=True):
        for name, expected in case["expected"].items():
            if ours[name] != expected:
                wrong += 1
                print(f"{name} differs:\n{json.dumps(case['messages'], ensure_ascii=False)}\n"
                      f"jinja {expected!r}\nours  {ours[name]!r}")
    print(f"seed {seed}: {len(cases)} conversations, {wrong} renderings differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        sys.exit(check(sys.argv[2]))
    (HERE / "chat_cases.json").write_text(
        json.dumps(make(1, 120), ensure_ascii=False, indent=0) + "\n")
