"""The charts' script, which takes seconds to make, is made once a machine, or by each server without a cache."""

from __future__ import annotations

import asyncio
import errno
import gzip
from pathlib import Path

import pytest

from usage_service.web.pages.presentation import vega
from usage_service.web.pages.presentation.vega import Vega, make_and_cache, read_cached

SCRIPT = "draw();"


@pytest.fixture(name="place")
def a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "glam-usage"


@pytest.fixture(name="makings")
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the package by one that is quick; return the list of what it made."""
    made: list[str] = []

    def bundle(snippet: str) -> str:
        made.append(snippet)
        return SCRIPT

    monkeypatch.setattr("vl_convert.javascript_bundle", bundle)
    return made


async def test_servers_that_start_together_share_one(place: Path) -> None:
    first, second = await asyncio.gather(Vega().packed(), Vega().packed())
    assert first == second == read_cached()
    assert b"vegaEmbed" in gzip.decompress(first)
    before = made_at(place)
    assert await Vega().packed() == first
    assert made_at(place) == before


def made_at(place: Path) -> int:
    [script] = place.glob("vega-*")
    return script.stat().st_mtime_ns


def test_what_was_kept_is_not_made_again(place: Path, makings: list[str]) -> None:
    assert read_cached() is None
    assert make_and_cache() == make_and_cache() == read_cached()
    assert len(makings) == 1
    assert place.stat().st_mode & 0o077 == 0  # nobody else gives this user's browser its scripts


@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_part_is_made_anew(place: Path, makings: list[str], left: int) -> None:
    whole = make_and_cache()
    [script] = place.glob("vega-*")
    script.write_bytes(whole[:left])
    assert read_cached() is None
    assert make_and_cache() == read_cached() == whole
    assert len(makings) == 2


def test_another_version_takes_the_place_of_the_last(
    place: Path, makings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_and_cache()
    monkeypatch.setattr(vega, "version", lambda name: "another")
    assert read_cached() is None
    make_and_cache()
    assert len(list(place.glob("vega-*"))) == 1
    assert len(makings) == 2


def test_where_nothing_can_be_kept_it_is_made_all_the_same(place: Path, makings: list[str]) -> None:
    place.write_text("a file where the directory would be")
    assert gzip.decompress(make_and_cache()).decode() == SCRIPT
    assert len(makings) == 1


def test_where_the_disk_is_full_it_is_made_all_the_same(
    place: Path, makings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    assert gzip.decompress(make_and_cache()).decode() == SCRIPT
    assert not list(place.glob("vega-*"))
    assert len(makings) == 1
