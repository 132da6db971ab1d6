"""Each cell of the notebooks runs against a service, and shows what it promises; what they keep is light."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.notebooks import FOLDER, Output, code_cells, read_notebook, run_notebook
from tests.support.servers import Client, Connection, drained_projections, event, post, registered

MOST_BYTES = 100_000
PROBES = ["gc_ms", "gc_ms", "slow_ms", "gc_slice"]


def traffic() -> Iterator[dict[str, Any]]:
    """Make up people who search, view a probe and leave for a tool, before and after a release."""
    now = datetime.now(UTC).replace(microsecond=0)
    yield event("release_published", product="fog", channel="nightly", data={"version": 150}, occurred_at=at(now, 8))
    for person in range(40):
        begin, who = now - timedelta(days=person % 16, hours=1), {"visitor": f"p{person}", "product": "fog"}
        yield event("page_viewed", **who, data={"page": "/"}, occurred_at=begin.isoformat())
        yield event("probe_searched", **who, data={"query": "gc", "results": 3}, occurred_at=later(begin, 1))
        probe = PROBES[person % 4]
        yield event("probe_viewed", **who, channel="nightly", probe=probe, occurred_at=later(begin, 2))
        if person % 3 == 0:
            yield event("link_followed", **who, data={"tool": "looker"}, occurred_at=later(begin, 3))


def at(now: datetime, days_before: int) -> str:
    return (now - timedelta(days=days_before)).isoformat()


def later(begin: datetime, minutes: int) -> str:
    return (begin + timedelta(minutes=minutes)).isoformat()


@pytest.fixture
async def shown(client: Client, database: Connection, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[Output]]]:
    """Run the notebooks and return what their cells show."""
    await post(client, *(registered(probe) for probe in ("gc_ms", "slow_ms", "gc_slice", "unseen_ms")), *traffic())
    await drained_projections(database)
    monkeypatch.setenv("USAGE_SERVICE_URL", str(client.make_url("/")))
    monkeypatch.setenv("USAGE_SERVICE_TOKEN", "none is asked for")
    names = ["usage", "log"]
    return {name: await asyncio.to_thread(run_notebook, read_notebook(FOLDER / f"{name}.ipynb")) for name in names}


async def test_every_cell_runs_and_shows_what_was_recorded(shown: dict[str, list[list[Output]]]) -> None:
    usage = json.dumps(shown["usage"])
    pictures = [one for cell in shown["usage"] for one in cell if "image/svg+xml" in one.get("data", {})]
    assert len(pictures) == 3
    most, least, session, _, _, releases = (json.dumps(outputs) for outputs in shown["usage"][1:])
    assert most.index("gc_ms") < most.index("slow_ms")
    assert "unseen_ms" in least
    assert "as whole" in session or "as starting_point" in session
    assert "'150'" in releases
    assert "starting_point" in usage
    duckdb, polars = (json.dumps(outputs, ensure_ascii=False) for outputs in shown["log"][1:3])
    assert "│ fog     │    40 │       40 │" in duckdb
    assert "│ 40       ┆ 60.0   ┆ 60.0" in polars


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_what_is_kept_is_light_and_complete(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    cells = code_cells(read_notebook(path))
    assert [bool(cell["outputs"]) for cell in cells] == [False] + [True] * (len(cells) - 1)
    assert "us_" not in path.read_text("utf-8")
