#!/usr/bin/env python3
"""Draws a training log as SVG: losses on the left, shares of right answers on the right.

usage: plot_log.py LOG.jsonl OUT.svg
"""

import json
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 440, 280, 50, 30, 70
COLOURS = ["#1f6fb2", "#d1702a", "#3a8f4d"]


def load(path):
    """The last report of every step: an interrupted run repeats some."""
    reports = {}
    for line in open(path):
        report = json.loads(line)
        reports[report["step"]] = report
    return [reports[step] for step in sorted(reports)]


def smooth(values, span=25):
    """Running mean of (right, all) pairs or numbers; None where nothing was counted."""
    out = []
    for i in range(len(values)):
        window = values[max(0, i - span + 1):i + 1]
        if isinstance(window[0], list):
            right, every = (sum(part) for part in zip(*window))
            out.append(right / every if every else None)
        else:
            out.append(sum(window) / len(window))
    return out


def panel(left, title, tokens, curves, low, high):
    """Axes, and one line per (name, values)."""
    def x(value):
        return left + WIDTH * value / tokens[-1]

    def y(value):
        return TOP + HEIGHT * (1 - (min(max(value, low), high) - low) / (high - low))

    out = [f'<text x="{left}" y="{TOP - 12}" font-weight="bold">{title}</text>']
    for i in range(6):
        value = low + (high - low) * i / 5
        out.append(f'<path d="M{left} {y(value):.1f}h{WIDTH}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
                   f'{value:.1f}</text>')
        at = tokens[-1] * i / 5
        out.append(f'<text x="{x(at):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">'
                   f'{at / 1e6:.1f}</text>')
    out.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">'
               'million tokens</text>')
    for (name, values), colour, row in zip(curves, COLOURS, range(3)):
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(tokens, values)
                          if v is not None)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" '
                   'stroke-width="1.5"/>'
                   f'<text x="{left + WIDTH - 8}" y="{TOP + 60 + 16 * row}" text-anchor="end" '
                   f'fill="{colour}">{name}</text>')
    return out


def main():
    reports = load(sys.argv[1])
    tokens = [r["tokens"] for r in reports]
    curve = lambda key: smooth([r[key] for r in reports])
    second = LEFT + WIDTH + GAP
    body = panel(LEFT, "loss, mean of 25 steps", tokens, [
        ("all tokens", curve("plain_loss")), ("weighted", curve("loss"))], 0.0, 5.0)
    body += panel(second, "right next tokens, training windows", tokens, [
        ("codes recalled", curve("recalled")), ("other answers", curve("answers"))], 0.0, 1.0)
    with open(sys.argv[2], "w") as out:
        out.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{second + WIDTH + 20}" '
                  f'height="{TOP + HEIGHT + 50}" font-family="sans-serif" font-size="12">\n'
                  '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) +
                  "\n</svg>\n")


if __name__ == "__main__":
    main()
