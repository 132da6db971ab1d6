"""Data for the page of sessions: roles over time, depths, and the matrix of which step follows which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usage_service.web.pages.presentation.comparison import Change, Compared
from usage_service.web.pages.presentation.units import measured
from usage_service.web.pages.presentation.words import counted, plain

MOST_STEPS = 12
WEIGHTS = (0.02, 0.1, 0.25, 0.5)  # shares of a row from which a cell is drawn darker


STEPS = {
    "probe_searched": "search",
    "page_viewed": "view a page",
    "probe_viewed": "view a probe",
    "control_changed": "change a control",
    "link_followed": "leave for a tool",
}


class Cell(NamedTuple):
    """Number of times that one step followed another, its share of the row, and how dark it is drawn (0 to 4)."""

    number: int
    share: float
    weight: int


class Matrix(NamedTuple):
    """Most frequent steps, and how often each (a row) was followed by each (a column)."""

    steps: list[str]
    rows: list[tuple[str, list[Cell]]]


class Told(NamedTuple):
    """Session at the medians, in words: its length, what was done in it, and the most frequent role and its share."""

    length: str
    probes: str
    controls: str
    events: str
    role: str
    share: float


def typical_session(summary: Mapping[str, Any]) -> Told | None:
    """Return the session at the medians in words; None without a session."""
    if not summary["quantiles"]:
        return None
    medians = {name: quantiles["median"] for name, quantiles in summary["quantiles"].items()}
    role, share = max(summary["roles"].items(), key=lambda item: item[1])
    probes, controls, events = (counted(int(medians[f"{noun}s"]), noun) for noun in ("probe", "control", "event"))
    return Told(measured(medians["seconds"], "second"), probes, controls, events, plain(role), share)


def sessions_changed(
    compared: Compared | None, summary: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Change | None:
    """Return how much the number of sessions changed, None when it is compared with none."""
    if compared is None or before is None:
        return None
    return compared.change(summary["roles_over_time"], before["roles_over_time"], lambda bucket: bucket["sessions"])


def roles_over_time(summary: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a row for each bucket and role."""
    return [
        {"start": bucket["start"], "series": plain(role), "value": share}
        for bucket in summary["roles_over_time"]
        for role, share in bucket["shares"].items()
    ]


def not_recorded(summary: Mapping[str, Any]) -> list[str]:
    """Return what no session recorded although a role needs it: a share of 0 % would be a guess."""
    shares = summary["roles"]
    missing = []
    if not shares["starting_point"] + shares["in_between"]:
        missing.append("links to other tools (link_followed)")
    if not shares["endpoint"] + shares["in_between"]:
        missing.append("where people came from (the referrer of page_viewed)")
    return missing


def transition_matrix(transitions: Sequence[Mapping[str, Any]]) -> Matrix:
    """Return the matrix of the MOST_STEPS most frequent steps; shares are of the cells that a row shows."""
    counts = {(_name(path["steps"][0]), _name(path["steps"][1])): path["count"] for path in transitions}
    seen: Counter[str] = Counter()
    for (before, after), count in counts.items():
        seen[before] += count
        seen[after] += count
    steps = [name for name, _ in seen.most_common(MOST_STEPS)]
    return Matrix(steps, [(before, _row([counts.get((before, after), 0) for after in steps])) for before in steps])


def depths(numbers: Sequence[Mapping[str, Any]], sessions: int) -> list[dict[str, object]]:
    """Return the share of the sessions that had each number of probes, for bars."""
    ordered = sorted(numbers, key=lambda number: int(number["number"]))
    return [{"name": str(one["number"]), "share": one["sessions"] / max(sessions, 1)} for one in ordered]


def _row(counts: Sequence[int]) -> list[Cell]:
    total = max(sum(counts), 1)
    return [Cell(count, count / total, sum(count / total >= weight for weight in WEIGHTS)) for count in counts]


def _name(step: Mapping[str, str]) -> str:
    return step["name"] if step["kind"] == "page" else f"{step['kind']} {step['name']}"
