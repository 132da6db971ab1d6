"""Whatever pings are drawn, a build's rows are those of GLAM's rules in plain Python.

SOAK_ROUNDS says how many sets of pings are tried; `make test` tries the same few each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.built_rows import built_rows
from tests.support.glam_today_reference import DATASETS, FENIX_EPOCH, Ping, Question, reference_rows
from tests.support.googlesql import GECKOVIEW_VERSIONS, PROBES
from tests.support.ping_makers import RUN_DATE
from tests.support.ping_warehouse import warehouse
from tests.support.servers import rounds

EXAMPLES = rounds(1)
PLACES = [(product, channel) for product in ("fog", "fenix") for channel in ("nightly", "beta", "release")]
SHIFTS = range(1 if EXAMPLES == 1 else len(PLACES))
DECLARED = "labeled_counter of declared labels"
KINDS = [*PROBES, DECLARED]
DEFINITIONS = (("exponential", 1, 90, 12), ("linear", 0, 64, 9), ("exponential", 0, 10000, 50), ("linear", 8, 792, 100))
MIDNIGHT = datetime.combine(RUN_DATE, time(), tzinfo=UTC)
HOUR = timedelta(hours=1)
OLDEST, NEWEST = MIDNIGHT - timedelta(days=365), MIDNIGHT + timedelta(days=3)
USUAL = [datetime.strptime(hour, "%Y%m%d%H").replace(tzinfo=UTC) for hour in ("2026103009", "2026111221")]
EDGES = [NEWEST - HOUR, NEWEST, OLDEST, OLDEST + HOUR]
NO_BUILDS = (None, "", "2026", "20261340100000", "20261119107700", "83671000", "83229900", "8000x000")
# Channels that are sampled from version 119 on have 118 within the window of 120.
LATEST = (150, 120, None)
SYSTEMS = ("Windows", "Windows", "Linux", "Darwin", None)
SAMPLE_IDS = (3, 9, 10, 99)
EXTREMES = (2**40, 2**40, 2**40 + 1, 0, -5, 2**63 - 1)
# Ranges whose minimum is above 1, that are so narrow that buckets are alike, and of one value.
POOLS = ((10, 12, 100, 200, 800), (4, 4000), (1, 10, 12345), (1, 2), (1,))
BUCKETS = ("0", "1", "2", "3", "5", "8", "17", "64", "90", "1000", "oops")
LABELS = ("a", "b", "a\\x00", "", "ünïcode", "l" * 205)


@dataclass(frozen=True)
class Case:
    """A probe of one kind, asked for of one product and channel, and the pings that carry it."""

    question: Question
    pings: Sequence[Ping] = field(repr=False)  # hypothesis warns of what is too long to be read


def desktop_build(moment: datetime, minute: int) -> str:
    return f"{moment:%Y%m%d%H}{minute:02}30"


def fenix_build(moment: datetime, minute: int) -> str:
    """Return a build id of the one form or of the other, with noise where it has no meaning."""
    if minute % 2:
        return f"{moment.year - 2018}{moment:%j%H}{minute:02}"
    return f"{((moment - FENIX_EPOCH) // HOUR << 3) + minute % 8 + (minute << 20):010}"


def builds(product: str, *, odd: bool) -> st.SearchStrategy[str | None]:
    spelled = desktop_build if product == "fog" else fenix_build
    valid = st.builds(spelled, st.sampled_from(EDGES if odd else USUAL), st.integers(0, 59))
    return valid | st.sampled_from(NO_BUILDS) if odd else valid


def display_versions(latest: int | None, *, odd: bool) -> st.SearchStrategy[str | None]:
    last = latest or 150
    if odd:
        return st.sampled_from(
            [f"{last - 2}.9", f"{last - 2}.0a1", f"{last - 3}.0", f"{last + 1}.0", str(last), None, "Nightly 261030"]
        )
    return st.sampled_from([f"{last}.0a1", f"{last}.0a1", f"{last - 1}.0.2"])


def sent(kind: str, pool: Sequence[int]) -> st.SearchStrategy[Any]:
    """Return a strategy of what a ping sends of a probe."""
    numbers, labels = st.sampled_from(pool), st.sampled_from(LABELS)
    pairs = st.lists(st.tuples(labels, numbers), min_size=1, max_size=3)
    histogram = st.lists(st.tuples(st.sampled_from(BUCKETS), numbers), max_size=4)
    if kind in ("boolean", "labeled_boolean"):
        flags = st.booleans()
        return flags if kind == "boolean" else st.lists(st.tuples(labels, flags), max_size=3)
    if kind == "dual_labeled_counter":
        return st.lists(st.tuples(labels, pairs), min_size=1, max_size=2)
    if kind.startswith("labeled_counter"):
        return pairs
    if kind.endswith("distribution"):
        return (
            st.lists(st.tuples(labels, histogram), min_size=1, max_size=2) if kind.startswith("labeled") else histogram
        )
    return numbers


@st.composite
def crowds(draw: st.DrawFn, question: Question, kind: str, pool: Sequence[int], times: int) -> list[Ping]:
    """Draw pings that some clients send alike, and of which one thing at most is odd.

    Where it is the value, they send an extreme one, none at all and an ordinary one on the same day.
    """
    first, size = draw(st.integers(0, 7)), draw(st.integers(1, 5))
    odd = draw(
        st.sampled_from(["", "", "", "", "client", "day", "build", "version", "provider", "channel", "value", "value"])
    )
    ping = Ping(
        client_id=None,
        submitted=MIDNIGHT - timedelta(days=draw(st.sampled_from([-1, 27, 28, 365, 366] if odd == "day" else [0, 1]))),
        os=draw(st.sampled_from(SYSTEMS)),
        app_build=draw(builds(question.product, odd=odd == "build")),
        app_channel=draw(st.sampled_from(["esr", None])) if odd == "channel" else question.channel,
        display_version=draw(display_versions(question.latest_version, odd=odd == "version")),
        isp=draw(st.sampled_from(["BrowserStack", "browserstack"] if odd == "provider" else [None, "Home", ""])),
        ping_type=draw(st.sampled_from(["metrics", "metrics", "baseline"])),
        dataset=DATASETS[question.channel] if question.product == "fenix" else "firefox_desktop",
    )
    values = [draw(sent(kind, EXTREMES)), None, draw(sent(kind, pool))] if odd == "value" else [draw(sent(kind, pool))]
    return [
        replace(
            ping,
            client_id=None if odd == "client" else f"client-{number}",
            sample_id=SAMPLE_IDS[number % len(SAMPLE_IDS)],
            sent={question.metric_type: value},
        )
        for number in range(first, first + size)
        for value in values * times
    ]


@st.composite
def cases(draw: st.DrawFn, kind: str, place: tuple[str, str]) -> Case:
    """Draw a question and its pings."""
    product, channel = place
    metric_type = "labeled_counter" if kind == DECLARED else kind
    question = Question(
        metric_type,
        RUN_DATE,
        channel,
        draw(st.sampled_from([150, None] if place == ("fenix", "nightly") else LATEST)),
        more_clients_than=draw(st.integers(0, 3)),
        more_users_than=draw(st.integers(0, 3)),
        buckets=draw(st.sampled_from(DEFINITIONS)) if "custom" in kind else None,
        declared_labels=kind == DECLARED,
        sampled=channel == "release",
        sampled_by_clients=draw(st.booleans()),
        product=product,
        geckoview=GECKOVIEW_VERSIONS if place == ("fenix", "nightly") else None,
    )
    pool = draw(st.sampled_from(POOLS))
    times = draw(st.sampled_from([1, 3]))  # a range begins at 1 where a client sends a ping only once
    drawn = draw(st.lists(crowds(question, kind, pool, times), min_size=6, max_size=12))
    return Case(question, [ping for crowd in drawn for ping in crowd])


def told(case: Case) -> str:
    """Return a case in lines: the question, and each ping of which there are so many."""
    return "\n".join([str(case.question), *(f"{number} x {ping}" for ping, number in counted(case.pings))])


def counted(pings: Sequence[Ping]) -> Iterator[tuple[Ping, int]]:
    for ping, alike in groupby(sorted(pings, key=repr)):
        yield ping, len(list(alike))


@pytest.mark.parametrize("shift", SHIFTS)
def test_rows_are_those_of_the_rules(tmp_path_factory: pytest.TempPathFactory, shift: int) -> None:
    """Each kind of probe is asked of each product and channel once, by the shift."""
    places = {kind: PLACES[(number + shift) % len(PLACES)] for number, kind in enumerate(KINDS)}
    rows = 0

    @given(st.tuples(*(cases(kind, place) for kind, place in places.items())))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 1, suppress_health_check=list(HealthCheck))
    def agree(drawn: Sequence[Case]) -> None:
        nonlocal rows
        pings = [ping for case in drawn for ping in case.pings]
        assume(len({ping.os for ping in pings}) > 1)  # the first that hypothesis draws is one ping for all
        with warehouse(tmp_path_factory.mktemp("drawn") / "pings.duckdb", pings) as client:
            for case in drawn:
                expected = reference_rows(pings, case.question)
                assert built_rows(client, case.question) == expected, told(case)
                rows += len(expected)

    agree()
    assert rows > 100
