"""What a hot list says of itself: the rule that each part of it follows, why, since when, and what is yet unviewed."""

from __future__ import annotations

from datetime import date

import msgspec
import numpy as np

from usage_service.hotlist.evidence import ADDITIONS, SIZES, Addition, Evidence, Rule
from usage_service.hotlist.experts import DEFAULT, EXPERTS
from usage_service.hotlist.learning import Night
from usage_service.probe_keys import Floats, Ints

MOST_CHANGES = 50
CLEARLY = 0.05  # percentage points


class Gain(msgspec.Struct, frozen=True):
    """Addition to a rule, and the percentage points that lists caught more with it."""

    name: Addition
    points: float


class RuleChoice(msgspec.Struct, frozen=True):
    """Rule of the places `first` to `last`: of the experts, the one whose lists of `size` probes caught most lately.

    `caught` is the share of the requests that its lists caught in `nights` nights, faded; `other` is the default, or
    the next best when the default leads, and `other_caught` its share.
    """

    first: int
    last: int
    size: int
    rule: str
    kind: str
    days: int
    measure: str
    additions: list[Gain]
    since: date | None
    nights: int
    caught: float
    other: str
    other_caught: float
    text: str


class RuleChange(msgspec.Struct, frozen=True):
    """Day from which on lists of `size` probes follow a rule."""

    day: date
    size: int
    rule: str


class UnviewedShare(msgspec.Struct, frozen=True):
    """Probes that nobody has viewed yet: how many of them are listed, and the share of the requests they should catch.

    `caught` is the share that those on past lists of this length caught, `chance` the share of the requests that are
    for any such probe, with a 95 % interval from `low` to `high`.
    """

    listed: int
    expected: float
    caught: float
    chance: float
    low: float
    high: float


def rule_choices(night: Night) -> list[RuleChoice]:
    """Return the choice for each of SIZES that has a place on the list."""
    found, begin = [], 0
    for part in night.parts:
        for size in part.sizes:
            end = min(int(SIZES[size]), part.end)
            if end > begin:
                found.append(_choice(night.learned.evidence, part.rule, size, begin, end))
                begin = end
    return found


def _choice(evidence: Evidence, rule: Rule, size: int, begin: int, end: int) -> RuleChoice:
    shares = evidence.caught[:, size] / max(evidence.requests, 1e-9)
    other = (
        DEFAULT if rule.expert != DEFAULT else int(np.where(np.arange(len(EXPERTS)) == DEFAULT, -1, shares).argmax())
    )
    chosen = EXPERTS[rule.expert]
    gains = [
        Gain(name, round(100 * float(evidence.gained[ADDITIONS.index(name), size]) / max(evidence.requests, 1e-9), 2))
        for name in rule.additions
    ]
    days = [change.day for change in evidence.changes if change.size == size]
    return RuleChoice(
        begin + 1,
        end,
        int(SIZES[size]),
        rule.words,
        *chosen,
        gains,
        date.fromordinal(days[-1]) if days else None,
        evidence.nights,
        round(float(shares[rule.expert]), 4),
        EXPERTS[other].words,
        round(float(shares[other]), 4),
        _why(evidence, rule, other, shares, gains),
    )


def _why(evidence: Evidence, rule: Rule, other: int, shares: Floats, gains: list[Gain]) -> str:
    """Return the reason for a rule in words."""
    own, nights = EXPERTS[rule.expert].words, f"{evidence.nights} {'night' if evidence.nights == 1 else 'nights'}"
    points = 100 * float(shares[rule.expert] - shares[other])
    if not evidence.nights:
        said = f"{own}, the default: there is no night yet to learn from"
    elif rule.expert == DEFAULT and points < CLEARLY:
        said = f"{own}, the default: over {nights} no other caught clearly more"
    else:
        said = f"{own}, chosen because over {nights} it caught {points:.1f} points more than {EXPERTS[other].words}"
    return "; ".join([said, *(f"with {gain.name} {gain.points:+.1f} points" for gain in gains)])


def rule_changes(night: Night) -> list[RuleChange]:
    """Return the last changes of the rules, the latest first."""
    changes = night.learned.evidence.changes[: -MOST_CHANGES - 1 : -1]
    return [RuleChange(date.fromordinal(one.day), int(SIZES[one.size]), one.rule.words) for one in changes]


def unviewed_share(night: Night, order: Ints) -> UnviewedShare:
    """Return what is expected of the unviewed probes on a list of some columns."""
    unviewed = ~night.seen[order]
    expected = night.by_column(night.place_shares)[order] * unviewed
    caught = night.learned.evidence.first_views_share(len(order))
    shares = (float(expected.sum()), caught, *night.unseen_share)
    return UnviewedShare(int(unviewed.sum()), *(round(share, 4) for share in shares))
