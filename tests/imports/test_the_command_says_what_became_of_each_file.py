"""`usage-service import` tells in one table what became of each file, and goes on after one that it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Run, runner
from tests.support.fake_service import fake_service


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capfd, monkeypatch)


def event(page: str, **fields: object) -> str:
    made = {"type": "page_viewed", "occurred_at": "2026-11-20T12:00:00Z", "data": {"page": page}}
    return json.dumps(made | fields)


async def test_a_file_that_cannot_be_read_stops_no_other(run: Run, tmp_path: Path) -> None:
    good, bad, missing = tmp_path / "good", tmp_path / "bad", tmp_path / "missing"
    good.write_text("\n".join([event("/a"), "not this", event("/b", colour="red"), event("/b")]))
    bad.write_text("what is it?")
    with fake_service() as service:
        code, out, errors = await run("import", str(bad), str(missing), str(tmp_path), str(good), "--url", service.url)
        assert len(service.events) == 2
    assert code == 1
    told = [line.removeprefix(str(good)).split() for line in out.splitlines()]
    assert told[:2] == [["file", "format", "what", "number"], ["events", "recorded", "page_viewed", "2"]]
    assert ["refused:", "colour:", "is", "not", "known", "1"] in told
    assert "usage-service: bad: is of no format that can be read" in errors
    assert f"usage-service: {missing}: No such file or directory" in errors
    assert f"usage-service: {tmp_path}: Is a directory" in errors
    assert "refused good:2: is not JSON" in errors
    assert "refused good:3: colour: is not known" in errors
    assert "Traceback" not in errors


async def test_a_wrong_option_is_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    path, refused, rules = tmp_path / "a.ndjson", tmp_path / "refused.ndjson", tmp_path / "rules.toml"
    path.write_text(event("/a"))
    refused.write_text("before")
    rules.write_text("rule = 1")
    with fake_service() as service:
        for option, value, why in (
            ("--format", "csv", "--format: there is no csv; there are export, events,"),
            ("--rules", str(rules), "rules.toml: rule: Expected `array`"),
        ):
            words = ("import", str(path), option, value, "--refused", str(refused), "--url", service.url)
            code, out, errors = await run(*words)
            assert (code, out, len(errors.splitlines())) == (2, "", 1)
            assert errors.startswith(f"usage-service: {why}")
        assert service.times == []
    assert refused.read_text() == "before"


async def test_refused_lines_are_kept_as_they_were(run: Run, tmp_path: Path) -> None:
    path, refused = tmp_path / "a.ndjson", tmp_path / "refused.ndjson"
    lines = [event("/a").encode(), b"caf\xe9", event("/b", colour="red").encode(), b"x" * 100_000, event("/c").encode()]
    path.write_bytes(b"\n".join(lines))
    for options in (("--dry-run",), ()):
        with fake_service() as service:
            code, _, _ = await run("import", str(path), "--refused", str(refused), "--url", service.url, *options)
            assert len(service.events) == (0 if options else 2)
        assert code == 1
        kept = [json.loads(line) for line in refused.read_text().splitlines()]
        assert [(line["file"], line["number"], line["field"]) for line in kept] == [
            ("a.ndjson", 2, None),
            ("a.ndjson", 3, "colour"),
            ("a.ndjson", 4, None),
        ]
        assert [line["text"] for line in kept] == ["caf\\xe9", lines[2].decode(), "x" * 4_096]
        assert kept[1]["reason"] == "is not known"


async def test_a_dry_run_shows_the_first_events_and_sends_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("product,probe,type,ping\n" + "".join(f"fog,p{number},counter,metrics\n" for number in range(12)))
    with fake_service() as service:
        code, out, _ = await run("import", str(path), "--dry-run", "--as-of", "2026-11-01", "--url", service.url)
        assert service.times == []
    assert code == 0
    shown = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [event["probe"] for event in shown] == [f"p{number}" for number in range(10)]
    assert {event["occurred_at"] for event in shown} == {"2026-11-01T00:00:00+00:00"}
    assert out.splitlines()[-1].split() == [str(path), "catalogue-csv", "would", "send", "probe_registered", "12"]


async def test_nothing_in_it_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[]")
    code, out, _ = await run("import", str(tmp_path / "a"), "--url", "http://127.0.0.1:9")
    assert code == 0
    assert out.splitlines()[-1].split() == [str(tmp_path / "a"), "nothing", "in", "it", "0"]


async def test_a_service_that_is_not_there_is_said_as_by_other_commands(
    run: Run, tmp_path: Path, unused_tcp_port: int
) -> None:
    (tmp_path / "a").write_text(event("/a"))
    url = f"http://127.0.0.1:{unused_tcp_port}"
    for words in (("import", str(tmp_path / "a")), ("export", str(tmp_path / "log")), ("popular",)):
        code, _, errors = await run(*words, "--url", url)
        assert code == 3
        assert len(errors.splitlines()) == 1
        assert errors.startswith(f"usage-service: {url} does not answer (")
        assert errors.endswith("Connection refused); start it, or name another with --url\n")


async def test_a_service_that_goes_away_is_waited_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_service.imports.posting.FIRST_WAIT", 0.001)
    (tmp_path / "a").write_text("\n".join(event(f"/{number}") for number in range(1_001)))
    with fake_service(lambda number, _: None if number == 1 else "unread") as service:
        code, _, errors = await run("import", str(tmp_path / "a"), "--url", service.url)
        assert len(service.times) == 1 + 8
    assert code == 3
    assert "did not take the events after 8 tries (" in errors
    assert "run the import again: it goes on" in errors
    assert "ConnectionKey" not in errors


async def test_what_is_no_address_of_a_service_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(event("/a"))
    for url in ("ftp://127.0.0.1", "http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"):
        code, _, errors = await run("import", str(tmp_path / "a"), "--url", url)
        assert code == 2
        assert f"{url} is no address of a service; give one such as http://127.0.0.1:8080" in errors


async def test_refused_lines_are_not_written_over_what_is_read(run: Run, tmp_path: Path) -> None:
    path, link = tmp_path / "a.ndjson", tmp_path / "link"
    path.write_text(event("/a"))
    link.hardlink_to(path)
    for refused, why in ((path, "written over"), (link, "written over"), (tmp_path / "none" / "b", "No such file")):
        code, _, errors = await run("import", str(path), "--dry-run", "--refused", str(refused))
        assert code == 2
        assert why in " ".join(errors.replace("│", "").split())
    assert path.read_text() == event("/a")
