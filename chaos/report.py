"""The tables of docs/reliability.md that are made by measuring, each between markers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from bench.numbers import percentile
from bench.report import machine
from bench.stack import ROOT
from chaos.trial import Outcome, Rates
from tests.support.promtool import PROMTOOL

PATH = ROOT / "docs" / "reliability.md"
TITLES = (
    *("fault", "acknowledged", "lost", "twice", "silence", "heartbeat knew", "alert", "back", "reads", "builds"),
    *("wrong", "day"),
)
ROW = re.compile(r"^\| \*\*(\S+)\*\*: .*$", re.MULTILINE)
NOTHING = "-"


class Untried(NamedTuple):
    """A fault that was not tried, or not to its end, and why."""

    name: str
    says: str
    why: str
    well: bool = True


def write_faults(results: Sequence[Outcome | Untried], order: Sequence[str], rates: Rates) -> None:
    """Put rows into the table, each in place of the one of before; the others are kept."""
    page = PATH.read_text("utf-8")
    kept = {found[1]: found[0] for found in ROW.finditer(page)}
    rows = {name: kept[name] for name in order if name in kept} | {result.name: row(result) for result in results}
    load = (
        f"Load: {rates.singles + 100 * rates.batches:,.0f} events a second, in {rates.singles:,.0f} requests of one "
        f"event and {rates.batches:,.0f} of a hundred. Last run: {machine()}."
    )
    head = f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}"
    _replace(page, "faults", "\n".join([load, "", head, *(rows[name] for name in order if name in rows)]))


def write_kill_rounds(recoveries: Sequence[float], acknowledged: int) -> None:
    """Write what kill rounds found that have lost nothing: after how many seconds events were acknowledged again."""
    p50, p99 = (percentile(recoveries, share) for share in (0.5, 0.99))
    text = (
        f"{len(recoveries)} kills, {acknowledged:,} events acknowledged: 0 lost, 0 twice. Every client was "
        f"acknowledged again after {p50:.2f} s (half of the kills), {p99:.2f} s (99 of 100), "
        f"{max(recoveries):.2f} s (the longest). {machine()}."
    )
    _replace(PATH.read_text("utf-8"), "kill rounds", text)


def _replace(page: str, name: str, text: str) -> None:
    between = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    replaced, times = between.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page)
    if times != 1:
        raise ValueError(f"{PATH} has no markers of {name}")
    PATH.write_text(replaced, "utf-8")


def row(result: Outcome | Untried) -> str:
    """Return the row of a fault."""
    return f"| **{result.name}**: {result.says} | {' | '.join([*cells(result), f'{datetime.now(UTC):%Y-%m-%d}'])} |"


def cells(result: Outcome | Untried) -> list[str]:
    """Return what stands in a row between the fault and the day."""
    return _tried(result) if isinstance(result, Outcome) else [result.why, *[""] * (len(TITLES) - 3)]


def _tried(outcome: Outcome) -> list[str]:
    return [
        f"{outcome.acknowledged:,}",
        str(outcome.lost),
        str(outcome.twice),
        f"{outcome.silence:.1f} s",
        _after(outcome.heartbeat),
        _alert(outcome),
        "**never**" if outcome.back is None else _after(outcome.back),
        f"{outcome.reads[0]} of {outcome.reads[1]}" if outcome.reads[1] else NOTHING,
        f"{outcome.builds[0]} of {outcome.builds[1]}",
        f"**{'; '.join(outcome.complaints)}**".replace("|", "/").replace("\n", " ") if outcome.complaints else NOTHING,
    ]


def _alert(outcome: Outcome) -> str:
    if PROMTOOL is None:
        return "needs promtool"
    return f"{outcome.alert.alert} {outcome.alert.second} s" if outcome.alert else NOTHING


def _after(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.1f} s"
