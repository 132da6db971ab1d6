"""Builds at which a distribution moved are found, and hardly any where none did, by simulation with a fixed seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.distributions import categories, clients, stored
from usage_service.stats.discoveries import RATE, discoveries_among
from usage_service.stats.distributions import Distribution
from usage_service.stats.moves import moves_among

BUILDS, REGRESSED = 30, range(15, 22)


def history(chance: np.random.Generator, number: int, slower: float, drift: float = 0) -> list[Distribution]:
    """Return builds of as many clients each, some of which are slower; the middle of each drifts besides."""
    middles = [200 * (slower if build in REGRESSED else 1) * np.exp(chance.normal(0, drift)) for build in range(BUILDS)]
    return [stored(clients(chance, number, middle)) for middle in middles]


@pytest.mark.parametrize(("drift", "number"), [(0, 300), (0.03, 1_000), (0.3, 1_000)])
def test_without_a_move_there_is_hardly_ever_one(drift: float, number: int) -> None:
    """Let builds differ as they usually do, beside what sampling does or far beyond it: that is no move."""
    chance = np.random.default_rng(20261129)
    assert sum(bool(moves_among(history(chance, number, 1, drift)).moves) for _ in range(20)) <= 3


@pytest.mark.parametrize(("number", "slower"), [(600, 1.6), (600, 1 / 1.6), (5_000, 1.2)])
def test_a_regression_and_its_fix_are_found(number: int, slower: float) -> None:
    chance = np.random.default_rng(20261129)
    for _ in range(5):
        found = moves_among(history(chance, number, slower))
        assert [move.place for move in found.moves] == [15, 22]
        there, back = (move.difference for move in found.moves)
        assert (there.value > 0, back.value > 0) == (slower > 1, slower < 1)
        assert there.low <= there.value <= there.high
        assert (there.low > 0) == (slower > 1)
        assert (found.steps, found.left_out, found.usual) == (BUILDS - 1, 0, 0)


def test_a_small_build_hides_no_move() -> None:
    chance = np.random.default_rng(20261129)
    builds: list[Distribution | None] = [*history(chance, 600, 1.6)]
    builds[15:15] = [stored(clients(chance, 40, 250)), None]
    found = moves_among(builds)
    assert [(move.before, move.place) for move in found.moves] == [(14, 17), (23, 24)]
    assert found.left_out == 2


def test_categories_move_too() -> None:
    usual, moved = {"always": 0.2, "never": 0.7, "sometimes": 0.1}, {"always": 0.3, "never": 0.6, "sometimes": 0.1}
    builds = [categories(moved if build in REGRESSED else usual, 800) for build in range(BUILDS)]
    found = moves_among(builds).moves
    assert [move.place for move in found] == [15, 22]
    assert {move.gap.at for move in found} <= {"always", "never"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_of_few_builds_little_is_said(number: int) -> None:
    chance = np.random.default_rng(20261129)
    found = moves_among(history(chance, 100, 1)[:number])
    assert (found.moves, found.steps, found.usual) == ([], max(number - 1, 0), 0)


@given(st.lists(st.floats(0, 1), max_size=60))
def test_as_many_are_discoveries_as_the_procedure_says(p_values: list[float]) -> None:
    """The largest k for which the k-th smallest p-value is at most 5 % of k / n, and those up to it."""
    adjusted, confidence = discoveries_among(p_values)
    number = len(p_values)
    wanted = max((k for k, p in enumerate(sorted(p_values), 1) if p * number / k <= RATE), default=0)
    found = [p for p, one in zip(p_values, adjusted, strict=True) if one <= RATE]
    assert len(found) == wanted
    assert sorted(found) == sorted(p_values)[:wanted]
    assert all(one >= p - 1e-9 for p, one in zip(p_values, adjusted, strict=True))
    assert confidence == pytest.approx(1 - RATE * max(wanted, 1) / number if number else 1 - RATE)
