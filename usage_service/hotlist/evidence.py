"""Evidence of past nights: what each rule would have caught, and what lists of each length did catch.

Evidence fades, so that a change of habits is followed. The expert that caught most leads (follow the leader with
forgetting: N. Cesa-Bianchi and G. Lugosi, Prediction, Learning, and Games, 2006, ch. 4), for each of SIZES on its own,
because short lists have to follow fast and long ones to remember. What may be added to the leader's scores is judged in
the same way, by what it gained there, which has to be more than its standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from usage_service.hotlist.experts import DEFAULT, EXPERTS
from usage_service.probe_keys import Floats

SIZES = np.array([10, 25, 50, 100, 200, 500, 1_000, 2_000, 10_000])
LENGTHS = np.array(sorted({round(length) for length in np.geomspace(1, 10_000, 49)}))  # np.unique loads numpy.ma
FADING = 0.5 ** (1 / 90)
COVERAGE_FADING = 0.5 ** (1 / 8)
PRIOR = 10.0  # requests by which the default, and a list without additions, are ahead at first
DOUBT = 30.0  # requests after which a list's length is judged half by what such lists caught
IS_DEFAULT = (np.arange(len(EXPERTS)) == DEFAULT)[:, None]

Addition = Literal["weekday", "new", "missed", "unviewed"]
ADDITIONS: tuple[Addition, ...] = ("weekday", "new", "missed", "unviewed")


class Rule(NamedTuple):
    """What a part of the list listens to: an expert (its place in EXPERTS), and what is added to its scores."""

    expert: int
    additions: tuple[Addition, ...]

    @property
    def words(self) -> str:
        """Return the rule in words."""
        return " + ".join((EXPERTS[self.expert].words, *self.additions))


class Change(NamedTuple):
    """Rule of the lists of a size (its place in SIZES) from a day on."""

    day: int
    size: int
    rule: Rule


@dataclass(frozen=True)
class Evidence:
    """Requests that would have been caught, faded: by expert and size, by addition and size, and by length of the list.

    `reach` are, by number, the requests for the likeliest of the unviewed probes, and those for as many of them taken
    at random.
    """

    nights: int
    requests: float
    caught: Floats
    gained: Floats
    spread: Floats  # sums of squares of what was gained
    expected: Floats  # by length, and so are those below
    listed: Floats
    first_views: Floats
    reach: Floats
    lately: float  # requests, faded as these are
    unseen: Floats  # of them for probes that nobody had asked for, and what was guessed
    changes: tuple[Change, ...]

    def leaders(self) -> list[int]:
        """Return the expert that leads for each of SIZES."""
        return [int(one) for one in (self.caught + PRIOR * IS_DEFAULT).argmax(axis=0)]

    def rules(self) -> list[Rule]:
        """Return the rule for each of SIZES."""
        wanted = self.gained > PRIOR + np.sqrt(self.spread)
        return [
            Rule(leader, tuple(name for name, own in zip(ADDITIONS, wanted[:, size], strict=True) if own))
            for size, leader in enumerate(self.leaders())
        ]

    def unviewed_places(self) -> int:
        """Return how many unviewed probes may end a list: as many as caught most beyond what chance would have."""
        lead = self.reach[0] - self.reach[1]
        best = int(lead.argmax())
        return int(LENGTHS[best]) if lead[best] > PRIOR else 0

    def correction(self, expected: Floats) -> Floats:
        """Return, by length, what lists caught over what they expected; few requests say little."""
        doubt = DOUBT * np.maximum(expected, 1e-9)
        return np.asarray((self.listed + doubt) / (self.expected + doubt))

    def unseen_share(self, guess: float) -> float:
        """Return the share of requests for unviewed probes: a guess, times what came of such guesses lately."""
        doubt = DOUBT * guess
        return min(1.0, guess * (self.unseen[0] + doubt) / (self.unseen[1] + doubt)) if guess else 0.0

    def first_views_share(self, length: int) -> float:
        """Return the share of the requests that unviewed probes on lists of about such a length caught lately."""
        place = int(np.searchsorted(LENGTHS, length))
        return float(self.first_views[min(place, len(LENGTHS) - 1)] / self.lately) if self.lately and length else 0.0

    def after(self, night: NightResult, day: int) -> Evidence:
        """Return the evidence after another night; `day` is the next one."""
        fade = COVERAGE_FADING
        found = Evidence(
            self.nights + 1,
            self.requests * FADING + night.requests,
            self.caught * FADING + night.caught,
            self.gained * FADING + night.gained,
            self.spread * FADING**2 + night.gained**2,
            self.expected * fade + night.asked * night.expected,
            self.listed * fade + night.listed,
            self.first_views * fade + night.first_views,
            self.reach * FADING + night.reach,
            self.lately * fade + night.asked,
            self.unseen * fade + night.unseen,
            self.changes,
        )
        before = self.rules()
        new = [Change(day, size, rule) for size, rule in enumerate(found.rules()) if rule != before[size]]
        return Evidence(**(vars(found) | {"changes": self.changes + tuple(new)})) if new else found


class NightResult(NamedTuple):
    """What came of a night: as in Evidence, but `expected` is a share, and `asked` are all requests.

    What is `listed`, `first_views` and `unseen` is of these, too: what lists should catch is a share of every request,
    also of those that count less when rules are chosen.
    """

    requests: float
    asked: float
    unseen: Floats
    caught: Floats
    gained: Floats
    expected: Floats
    listed: Floats
    first_views: Floats
    reach: Floats


def no_evidence() -> Evidence:
    """Return the evidence before the first night."""
    none = np.zeros(len(LENGTHS))
    caught = np.zeros((len(EXPERTS), len(SIZES)))
    gained = np.zeros((len(ADDITIONS), len(SIZES)))
    return Evidence(0, 0.0, caught, gained, gained, none, none, none, np.zeros((2, len(LENGTHS))), 0.0, np.zeros(2), ())
