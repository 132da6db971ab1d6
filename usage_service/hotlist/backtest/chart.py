"""Chart of a backtest: the share of requests caught, by the length of the list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import cast
from xml.etree.ElementTree import Element, SubElement, tostring

from usage_service.hotlist.backtest.replaying import Backtest

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 40, 50
# Safe for colour-blind readers: M. Okabe and K. Ito, Color Universal Design, 2008.
COLOURS = ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#000000")
DASHES = ("none", "6 3", "2 3")  # the second and third policy of a colour
LABEL_GAP = 15


def chart(found: Backtest) -> bytes:
    """Return an SVG with a line for each policy; the budgets are spaced by their logarithms."""
    svg = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img")
    svg.set("font-family", "sans-serif")
    svg.set("font-size", "12")
    SubElement(svg, "rect", width=str(WIDTH), height=str(HEIGHT), fill="white")
    title = f"Requests caught, {found.nights} nights up to {found.last_day}, {found.requests:,} requests"
    _text(svg, LEFT, 24, title)
    across = _places(found.budgets)
    _axes(svg, found.budgets, across)
    ends = _apart([_height(policy.caught[-1]) for policy in found.policies])
    for number, (policy, end) in enumerate(zip(found.policies, ends, strict=True)):
        colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        points = " ".join(f"{x:.1f},{_height(share):.1f}" for x, share in zip(across, policy.caught, strict=True))
        SubElement(
            svg,
            "polyline",
            {"points": points, "fill": "none", "stroke": colour, "stroke-width": "2", "stroke-dasharray": dashes},
        )
        _text(svg, WIDTH - RIGHT + 10, end + 4, f"{policy.policy} {policy.caught[-1]:.1%}", fill=colour)
    return cast(bytes, tostring(svg, encoding="utf-8"))


def _axes(svg: Element, budgets: Sequence[int], across: Sequence[float]) -> None:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = f"{_height(share):.1f}"
        SubElement(svg, "line", x1=str(LEFT), x2=str(WIDTH - RIGHT), y1=y, y2=y, stroke="#dddddd")
        _text(svg, LEFT - 8, _height(share) + 4, f"{share:.0%}", anchor="end")
    for budget, x in zip(budgets, across, strict=True):
        _text(svg, x, HEIGHT - BOTTOM + 18, f"{budget:,}", anchor="middle")
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "probes built a night", anchor="middle")


def _places(budgets: Sequence[int]) -> list[float]:
    least, width = log(budgets[0]), log(budgets[-1] / budgets[0]) or 1.0
    return [LEFT + (WIDTH - RIGHT - LEFT) * (log(budget) - least) / width for budget in budgets]


def _height(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _apart(heights: Sequence[float]) -> list[float]:
    """Return the heights of labels, moved up so that each is at least a line above the one below."""
    placed = list(heights)
    order = sorted(range(len(heights)), key=heights.__getitem__, reverse=True)
    for below, above in pairwise(order):
        placed[above] = min(placed[above], placed[below] - LABEL_GAP)
    return placed


def _text(svg: Element, x: float, y: float, words: str, anchor: str = "start", fill: str = "#222222") -> None:
    node = SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "fill": fill})
    node.text = words
