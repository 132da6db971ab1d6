"""Releases without an effect are found to have none at the nominal rate; an effect is found, weekends or not."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Self

import numpy as np
import pytest

from tests.support.servers import Client, Connection, JsonObject, event, post
from tests.support.traffic import fold_all
from usage_service.probe_keys import Floats, Ints
from usage_service.stats.discoveries import RATE, discoveries_among
from usage_service.stats.release_effects import (
    AFTER,
    BEFORE,
    HISTORY,
    Estimate,
    fit_ratios,
)
from usage_service.stats.students_t import student_quantile, student_within
from usage_service.web.api import releases as web_releases

WEEK = np.array([1.3, 1.4, 1.2, 1.1, 1.0, 0.3, 0.25])  # from Monday
ROUNDS = 602  # a multiple of 7


def calendar(history: int, before: int, after: int, first: int = 0) -> tuple[Ints, Ints]:
    """Return weekdays from the weekday `first` on, and periods; the day of the release is left out."""
    periods = np.repeat([HISTORY, BEFORE, AFTER], [history, before, after])
    days = np.arange(len(periods)) + (periods == AFTER)
    return (first + days) % 7, periods


def estimate_ratio(counts: Floats, weekdays: Ints, periods: Ints) -> Estimate | None:
    """Return the estimate for one series."""
    return next(iter(fit_ratios(counts[np.newaxis], weekdays, periods).estimates()), None)


def simulated(
    chance: np.random.Generator, effect: float, mean: float, dispersion: float, days: int = 7, rounds: int = ROUNDS
) -> list[Estimate]:
    """Estimate the effects of releases on any weekday; counts are negative binomial, of variance dispersion * mean."""
    estimates = []
    for first in range(7):
        weekdays, periods = calendar(28, days, days, first)
        means = np.tile(mean * WEEK[weekdays] * np.where(periods == AFTER, effect, 1), (rounds // 7, 1))
        counts = chance.poisson(chance.gamma(means / (dispersion - 1), dispersion - 1))
        estimates += fit_ratios(counts.astype(float), weekdays, periods).estimates()
    assert len(estimates) == rounds
    return estimates


@pytest.mark.parametrize(("mean", "dispersion"), [(200.0, 4.0), (20.0, 1.5), (3000.0, 30.0)])
def test_the_interval_covers_no_effect_at_its_nominal_rate(mean: float, dispersion: float) -> None:
    chance = np.random.default_rng(20261124)
    estimates = simulated(chance, 1, mean, dispersion)
    covered = sum(estimate.low <= 1 <= estimate.high for estimate in estimates) / ROUNDS
    assert 0.92 <= covered <= 0.98  # 95 %, more than three standard errors
    assert all((estimate.p_value >= 0.05) == (estimate.low <= 1 <= estimate.high) for estimate in estimates)


@pytest.mark.parametrize(("effect", "days"), [(1.5, 7), (1 / 1.5, 7), (1.5, 14)])
def test_an_effect_of_one_half_is_found(effect: float, days: int) -> None:
    chance = np.random.default_rng(20261124)
    estimates = simulated(chance, effect, 200, 4, days, rounds=210)
    found = sum(estimate.p_value < 0.05 and (estimate.ratio > 1) == (effect > 1) for estimate in estimates)
    assert found >= 200
    assert math.exp(np.mean([math.log(estimate.ratio) for estimate in estimates])) == pytest.approx(effect, rel=0.03)
    covered = sum(estimate.low <= effect <= estimate.high for estimate in estimates)
    assert 190 <= covered <= 209


@pytest.mark.parametrize("mean", [3.0, 40.0])
def test_of_probes_without_an_effect_hardly_any_is_named(mean: float) -> None:
    """However many there are, popular or not; those with an effect are named, and their intervals cover it."""
    chance = np.random.default_rng(20261129)
    weekdays, periods = calendar(28, 7, 7, 2)
    effects = np.repeat([1.0, 5.0], [280, 20])
    named, wrong, covered = 0, 0, 0
    for _ in range(10):
        means = (mean * chance.gamma(4, 0.25, 300) + 1)[:, np.newaxis] * WEEK[weekdays]
        counts = chance.poisson(means * np.where(periods == AFTER, effects[:, np.newaxis], 1)).astype(float)
        fits = fit_ratios(counts, weekdays, periods)
        adjusted, confidence = discoveries_among(fits.p_values())
        for estimate, effect, p_value in zip(fits.estimates(confidence), effects[fits.places], adjusted, strict=True):
            if p_value <= RATE:
                named, wrong = named + 1, wrong + (effect == 1)
                covered += estimate.low <= effect <= estimate.high
    assert named - wrong >= 190  # of 200
    assert wrong <= 0.09 * named  # 5 %, two standard errors
    assert covered >= 0.91 * named


def test_a_weekend_is_no_effect() -> None:
    """Three weekdays before and a weekend after: there are far fewer views, as every week."""
    weekdays, periods = calendar(28, 3, 3, first=1)
    assert weekdays[periods == AFTER].tolist() == [5, 6, 0]
    estimate = estimate_ratio(np.round(1000 * WEEK[weekdays]), weekdays, periods)
    assert estimate is not None
    assert estimate.ratio == pytest.approx(1, abs=0.01)
    assert estimate.p_value > 0.5


def test_without_rhythm_or_dispersion_it_is_the_ratio_of_poisson_counts() -> None:
    """The logarithm of that ratio has the variance 1/a + 1/b."""
    periods = np.repeat([BEFORE, AFTER], 8)
    counts = np.where(periods == AFTER, 150.0, 100.0)
    estimate = estimate_ratio(counts, np.zeros(16, dtype=np.int64), periods)
    assert estimate is not None
    margin = 2.1447866879 * math.sqrt(1 / 800 + 1 / 1200)  # t, 14 degrees of freedom
    expected = (1.5, 1.5 * math.exp(-margin), 1.5 * math.exp(margin))
    assert estimate[:3] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("history", "before", "after", "each"),
    [(28, 2, 7, 100), (28, 7, 2, 100), (28, 7, 7, 1), (0, 3, 3, 100), (0, 0, 7, 100), (0, 0, 0, 1), (28, 7, 0, 100)],
)
def test_too_little_is_said_to_be_too_little(history: int, before: int, after: int, each: int) -> None:
    """One of the cases is of days that share no weekday before and after."""
    weekdays, periods = calendar(history, before, after)
    assert estimate_ratio(np.full(len(periods), float(each)), weekdays, periods) is None


@pytest.mark.parametrize("empty", [BEFORE, AFTER, HISTORY])
def test_a_period_without_a_view_has_a_ratio_too(empty: int) -> None:
    weekdays, periods = calendar(28, 7, 7)
    estimate = estimate_ratio(np.where(periods == empty, 0.0, 50.0 * WEEK[weekdays]), weekdays, periods)
    assert estimate is not None
    assert all(math.isfinite(value) for value in estimate)
    assert (estimate.ratio > 100, estimate.ratio < 0.01) == (empty == BEFORE, empty == AFTER)


def test_empty_weekends_do_not_hide_an_effect() -> None:
    weekdays, periods = calendar(28, 7, 7)
    counts = np.where(weekdays < 5, np.where(periods == AFTER, 150.0, 100.0) + weekdays, 0.0)
    estimate = estimate_ratio(counts, weekdays, periods)
    assert estimate is not None
    assert estimate.ratio == pytest.approx(1.5, rel=0.02)
    assert estimate.p_value < 1e-6


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062047362), (2, 4.3026527299), (3, 3.1824463053), (10, 2.2281388520), (60, 2.0002978220)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert student_quantile(0.95, freedom) == pytest.approx(t, rel=1e-8)
    assert student_within(t, freedom) == pytest.approx(0.95, rel=1e-9)


RELEASED = date(2026, 11, 4)


def views(day: date, number: int, **fields: object) -> list[JsonObject]:
    at = datetime.combine(day, datetime.min.time(), UTC)
    return [
        event("probe_viewed", occurred_at=(at + timedelta(minutes=7 * index)).isoformat(), channel="nightly", **fields)
        for index in range(number)
    ]


def release(version: int, day: date = RELEASED, **fields: object) -> JsonObject:
    at = f"{day}T17:00:00Z"
    return event("release_published", occurred_at=at, visitor=None, data={"version": version}, **fields)


async def test_releases_are_answered_with_whole_days_around_them(
    client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day of the release, a day that is not over and days before the log began do not count; bots neither."""
    monkeypatch.setattr(web_releases, "datetime", Clock)
    counts = {RELEASED + timedelta(days=offset): 9 + offset % 3 for offset in range(-10, 9)}
    log = list(itertools.chain(*(views(day, number) for day, number in counts.items())))
    log += views(RELEASED, 40) + views(RELEASED + timedelta(days=1), 20, data={"found": True, "bot": True})
    await post(
        client, *log, release(121, channel="nightly"), release(120, RELEASED - timedelta(days=8), channel="beta")
    )
    await fold_all(database)
    answer = await (await client.get("/v1/releases/impact?days=14")).json()
    nightly, beta = answer["releases"]
    days = [day for day in counts if day not in (RELEASED, RELEASED + timedelta(days=8))]
    before, after = ([day for day in days if (day > RELEASED) == later] for later in (False, True))
    assert {name: nightly[name] for name in ("product", "channel", "version", "published_at", "effect")} == {
        "product": "fog",
        "channel": "nightly",
        "version": 121,
        "published_at": "2026-11-04T17:00:00Z",
        "effect": "none",
    }
    assert (nightly["days_before"], nightly["days_after"]) == (len(before), len(after)) == (10, 7)
    assert nightly["views_before"] == sum(counts[day] for day in before)
    assert nightly["views_after"] == sum(counts[day] for day in after)
    periods = np.repeat([BEFORE, AFTER], [10, 7])
    weekdays = np.array([day.weekday() for day in days])
    estimate = estimate_ratio(np.array([float(counts[day]) for day in days]), weekdays, periods)
    assert Estimate(*(nightly[name] for name in Estimate._fields)) == pytest.approx(estimate)
    assert (beta["effect"], beta["ratio"], beta["days_after"]) == ("too_little_data", None, 0)


class Clock(datetime):
    """A clock that stands at noon of the day that is not over."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 11, 12, 12, tzinfo=tz)


async def test_a_jump_in_views_is_an_effect(client: Client, database: Connection) -> None:
    days = [RELEASED + timedelta(days=offset) for offset in range(-21, 8)]
    await post(client, *itertools.chain(*(views(day, 30 if day > RELEASED else 15 + day.day % 2) for day in days)))
    await post(client, release(121, channel="nightly"), release(122, channel="nightly", product="fenix"))
    await fold_all(database)
    path = "/v1/releases/impact?product=fog&channel=nightly&since=2026-11-01T00:00:00Z&until=2026-12-01T00:00:00Z"
    [found] = (await (await client.get(path)).json())["releases"]
    assert (found["effect"], found["days_before"], found["days_after"]) == ("up", 7, 7)
    assert found["low"] <= 30 / 15.5 <= found["high"]


async def test_without_a_release_there_is_none(client: Client) -> None:
    expected = {"type": "release_published", "days": 7, "log_begins": None, "releases": []}
    assert await (await client.get("/v1/releases/impact")).json() == expected


async def test_any_type_of_event_may_be_a_mark(client: Client, database: Connection) -> None:
    """Of each product and channel the first of a day; what names none is of those that are asked for."""
    days = [RELEASED + timedelta(days=offset) for offset in range(-21, 8)]
    await post(client, *itertools.chain(*(views(day, 30 if day > RELEASED else 15 + day.day % 2) for day in days)))
    at = [f"{RELEASED}T{hour}:00:00Z" for hour in ("16", "09", "12")]

    def told(place: int, label: str, product: str | None, channel: str | None) -> JsonObject:
        where = {"product": product, "channel": channel, "data": {"label": label}}
        return event("x_told", occurred_at=at[place], visitor=None, **where)

    marks = [told(0, "to all", None, None), told(1, "to fog", "fog", "nightly"), told(2, "again", "fog", "nightly")]
    await post(client, *marks, event("x_other", occurred_at=at[0], visitor=None))
    await fold_all(database)
    everywhere = await (await client.get("/v1/releases/impact?type=x_told")).json()
    assert [(one["product"], one["channel"], one["label"], one["published_at"]) for one in everywhere["releases"]] == [
        (None, None, "to all", at[0]),
        ("fog", "nightly", "again", at[1]),
    ]
    [found] = (await (await client.get("/v1/releases/impact?type=x_told&product=fog&channel=nightly")).json())[
        "releases"
    ]
    assert (found["effect"], found["version"], found["days_after"]) == ("up", None, 7)
    assert found["low"] <= 30 / 15.5 <= found["high"]
    assert (await (await client.get("/v1/releases/impact?type=x_told&product=fenix")).json())["releases"] == [
        {"product": "fenix", "channel": None, "version": None, "label": "to all", "published_at": at[0],
         "first_day": None, "days_before": 0, "days_after": 0, "views_before": 0, "views_after": 0,
         "ratio": None, "low": None, "high": None, "p_value": None, "effect": "too_little_data"},
    ]  # fmt: skip


async def test_an_answer_about_other_marks_changes_with_them(client: Client, database: Connection) -> None:
    """Marks are read from the log, not from a projection."""
    await post(client, event("x_told", occurred_at=f"{RELEASED}T09:00:00Z", visitor=None))
    await fold_all(database)
    path = "/v1/releases/impact?type=x_told"
    tag = (await client.get(path)).headers["ETag"]
    assert (await client.get(path, headers={"If-None-Match": tag})).status == 304
    await post(client, event("x_told", occurred_at=f"{RELEASED + timedelta(days=1)}T09:00:00Z", visitor=None))
    again = await client.get(path, headers={"If-None-Match": tag})
    assert (again.status, len((await again.json())["releases"])) == (200, 2)


async def test_the_probes_that_a_release_moved_are_named(client: Client, database: Connection) -> None:
    days = [RELEASED + timedelta(days=offset) for offset in range(-21, 8)]
    numbers = {"gc_ms": (4, 12), "slow_ms": (5, 5), "rare_ms": (0, 1)}
    for probe, (before, after) in numbers.items():
        await post(client, *itertools.chain(
            *(views(day, after if day > RELEASED else before + day.day % 2 * (before > 0), probe=probe) for day in days)
        ))  # fmt: skip
    await post(client, release(121, channel="nightly"))
    await fold_all(database)
    asked = "/v1/releases/probes?product=fog&channel=nightly"
    found = await (await client.get(f"{asked}&version=121")).json()
    assert (found["tested"], found["too_few"], found["moved"]) == (2, 1, 1)
    assert found["confidence"] == pytest.approx(1 - 0.05 / 2)
    first, second = found["probes"]
    assert (first["probe"], first["effect"], second["probe"], second["effect"]) == ("gc_ms", "up", "slow_ms", "none")
    assert (first["views_before"], first["views_after"]) == (7 * 4 + 4, 7 * 12)
    assert first["low"] <= 12 / 4.5 <= first["high"]
    assert (await (await client.get(f"{asked}&at={RELEASED}")).json())["probes"] == found["probes"]
    assert [one["probe"] for one in (await (await client.get(f"{asked}&at={RELEASED}&limit=1")).json())["probes"]] == [
        "gc_ms"
    ]
    unknown = await client.get(f"{asked}&version=122")
    assert (unknown.status, "122" in (await unknown.json())["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("impact?days=2", "days"), ("impact?limit=0", "limit"), ("impact?since=3000-01-01T00:00:00Z", "since"),
     ("impact?type=probe_viewed", "type"), ("impact?type=X", "type"), ("probes?product=fog", "at"),
     ("probes?product=fog&version=121", "channel"), ("probes?product=fog&version=1&channel=beta&at=2026-11-04", "at")],
)  # fmt: skip
async def test_what_is_wrong_is_named(client: Client, query: str, parameter: str) -> None:
    response = await client.get(f"/v1/releases/{query}")
    assert response.status == 422
    assert [error["parameter"] for error in (await response.json())["errors"]] == [parameter]
