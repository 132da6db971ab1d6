"""`usage-service hotlist`, `backtest`, `sample-traffic`: what they print and change, what they refuse in a line."""

from __future__ import annotations

import csv
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.hotlist.test_hot_list_equals_a_reference import made
from tests.support.commands import Run, runner
from tests.support.hot_traffic import FIRST, as_event
from tests.support.servers import Client, Connection, event, post, registered


@pytest.fixture
def usage_service(client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a runner of the command against the service, which returns exit code, output and errors."""
    return runner(capfd, monkeypatch, USAGE_SERVICE_URL=str(client.make_url("/")))


@pytest.fixture
async def viewed(client: Client, drained: Callable[[], Awaitable[None]]) -> None:
    now = datetime.now(UTC).isoformat()
    names = ["a_ms", "b_ms", "b_ms", "c_ms", "c_ms", "c_ms"]
    views = [event("probe_viewed", probe=name, visitor=f"v{n}", occurred_at=now) for n, name in enumerate(names)]
    await post(client, *views, *(registered(name, occurred_at="2026-01-01T00:00:00Z") for name in set(names)))
    await drained()


@pytest.mark.usefixtures("viewed")
async def test_the_list_is_csv_when_piped_and_what_else_is_asked_for(usage_service: Run) -> None:
    code, out, err = await usage_service("hotlist", "--product", "fog", "--budget", "2")
    assert (code, err) == (0, "")
    assert [row["probe"] for row in csv.DictReader(out.splitlines())] == ["c_ms", "b_ms"]
    assert json.loads((await usage_service("hotlist", "--format", "json"))[1])["budget"] == 100
    assert (await usage_service("hotlist", "--format", "lines"))[1] == "c_ms\nb_ms\na_ms\n"
    table = (await usage_service("hotlist", "--format", "table"))[1]
    assert "3 requests in 28 days, by 3 people a day added up" in " ".join(table.split())
    first = (await usage_service("hotlist", "--run", "tonight", "--budget", "1", "--format", "lines"))[1]
    assert (
        first
        == (await usage_service("hotlist", "--run", "tonight", "--budget", "1", "--format", "lines"))[1]
        == "c_ms\n"
    )


@pytest.mark.usefixtures("viewed")
async def test_a_run_is_shown_by_its_name(usage_service: Run) -> None:
    kept = ("hotlist", "--run", "tonight", "--format", "lines")
    made = await usage_service(*kept, "--product", "fog", "--budget", "2")
    assert made == (0, "c_ms\nb_ms\n", "")
    for same in ((), ("--product", "fog"), ("--budget", "2")):
        assert await usage_service(*kept, *same) == made
    for other in (("--budget", "1"), ("--coverage", "0.5")):
        code, out, err = await usage_service(*kept, *other)
        assert (code, out) == (2, "")
        assert "tonight has a list already" in err
    assert (await usage_service("hotlist", "--run", "tomorrow", "--format", "lines"))[1] == "c_ms\nb_ms\na_ms\n"


@pytest.mark.usefixtures("viewed")
async def test_pinning_and_excluding(usage_service: Run) -> None:
    assert (await usage_service("hotlist", "pin", "fog", "a_ms", "--reason", "asked for"))[1] == "fog a_ms: pinned\n"
    assert (await usage_service("hotlist", "exclude", "fog", "c_ms"))[1] == "fog c_ms: excluded\n"
    assert (await usage_service("hotlist", "--format", "lines"))[1] == "a_ms\nb_ms\n"
    rules = json.loads((await usage_service("hotlist", "rules", "--product", "fog", "--format", "json"))[1])
    assert [(one["probe"], one["rule"], one["reason"]) for one in rules] == [
        ("a_ms", "pinned", "asked for"),
        ("c_ms", "excluded", ""),
    ]
    for command, probe, said in (
        ("unpin", "c_ms", "c_ms of fog is excluded, and stays so; `hotlist include` lifts that"),
        ("include", "a_ms", "a_ms of fog is pinned, and stays so; `hotlist unpin` lifts that"),
    ):
        code, _, err = await usage_service("hotlist", command, "fog", probe)
        assert (code, err) == (2, f"usage-service: {said}\n")
    assert (await usage_service("hotlist", "--format", "lines"))[1] == "a_ms\nb_ms\n"
    assert (await usage_service("hotlist", "unpin", "fog", "a_ms"))[0] == 0
    assert (await usage_service("hotlist", "include", "fog", "c_ms"))[0] == 0
    assert (await usage_service("hotlist", "--format", "lines"))[1] == "c_ms\nb_ms\na_ms\n"
    code, _, err = await usage_service("hotlist", "include", "fog", "c_ms")
    assert code == 2
    assert "neither pinned nor excluded" in err


async def test_reporting_what_was_built(usage_service: Run, database: Connection, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a_ms\nb_ms\n")
    command = [
        "hotlist",
        "built",
        "fog",
        "--channel",
        "nightly",
        "--built-at",
        "2026-11-20",
        str(tmp_path / "names"),
    ]
    assert json.loads((await usage_service(*command))[1]) == {
        "recorded": 2,
        "duplicate": 0,
        "builds_ended": 0,
        "unknown": [],
    }
    assert json.loads((await usage_service(*command))[1])["duplicate"] == 2
    assert await database.fetchval("SELECT count(*) FROM event_log WHERE type = 'probe_built'") == 2


@pytest.mark.usefixtures("viewed")
async def test_names_that_the_catalogue_lacks_are_told_and_nothing_beside_them_is_lost(
    usage_service: Run, database: Connection, tmp_path: Path
) -> None:
    (tmp_path / "names").write_text("a_ms\nnosuch_probe\nb_ms\n")
    command = ("hotlist", "built", "fog", "--channel", "nightly", "--built-at", "2026-11-20", str(tmp_path / "names"))
    code, out, err = await usage_service(*command)
    assert (code, json.loads(out)["recorded"], json.loads(out)["unknown"]) == (1, 2, ["nosuch_probe"])
    assert "left out, as the catalogue of fog does not have them: nosuch_probe" in err
    assert await database.fetchval("SELECT count(*) FROM event_log WHERE type = 'probe_built'") == 2


@pytest.mark.usefixtures("viewed")
async def test_names_from_a_spreadsheet_are_reported_and_none_are_not_passed_over(
    usage_service: Run, tmp_path: Path
) -> None:
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbfa_ms\r\nb_ms\r\n")
    command = ("hotlist", "built", "fog", "--channel", "nightly", "--built-at", "2026-11-20", str(tmp_path / "names"))
    assert json.loads((await usage_service(*command))[1])["recorded"] == 2
    (tmp_path / "names").write_text("")
    code, out, err = await usage_service(*command)
    assert (code, out) == (2, "")
    assert "has no names of probes" in err


async def test_a_backtest_of_files_of_the_service_and_of_made_traffic(
    usage_service: Run, client: Client, drained: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    shape = ("--days", "8", "--probes", "30", "--people", "20", "--first", str(FIRST))
    code, events, _ = await usage_service("sample-traffic", *shape)
    assert code == 0
    assert events == (await usage_service("sample-traffic", *shape))[1]
    (tmp_path / "made.ndjson").write_text(events)
    picture = tmp_path / "chart.svg"
    code, out, err = await usage_service(
        "backtest", str(tmp_path / "made.ndjson"), "--budgets", "5,10", "--chart", str(picture)
    )
    assert (code, err) == (0, "")
    rows = {row["policy"]: row for row in csv.DictReader(out.splitlines())}
    assert float(rows["clairvoyant"]["10"]) >= float(rows["hot_list"]["10"]) >= float(rows["hot_list"]["5"]) > 0
    assert picture.read_bytes().startswith(b"<?xml") or picture.read_bytes().startswith(b"<svg")
    assert (await usage_service("import", str(tmp_path / "made.ndjson")))[0] == 0
    await drained()
    assert (await usage_service("backtest", "--nights", "7", "--budgets", "5,10"))[1] == out
    table = (await usage_service("backtest", "--budgets", "5,10", "--format", "table"))[1]
    assert "Requests caught in percent, 7 nights" in table


async def test_what_cannot_be_replayed_is_said_in_a_line(usage_service: Run, tmp_path: Path) -> None:
    (tmp_path / "none.ndjson").write_text(json.dumps(event()) + "\n")
    for arguments, said in (
        ([str(tmp_path / "none.ndjson")], "hold no request of a probe"),
        ([], "nobody asked for a probe"),
        (["--sample", "--budgets", "few"], "give numbers"),
    ):
        code, out, err = await usage_service("backtest", *arguments)
        assert (code, out) == (2, "")
        assert said in " ".join(err.replace("│", "").split())
    day = as_event(made(1, 1)[0])
    (tmp_path / "one.ndjson").write_text(json.dumps(day) + "\n")
    code, _, err = await usage_service("backtest", str(tmp_path / "one.ndjson"))
    assert code == 2
    assert "no requests on a day that has a day before it" in err
