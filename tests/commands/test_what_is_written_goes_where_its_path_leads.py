"""Commands write to where a path leads: through links, into pipes, to the standard output as `-`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.building import served
from tests.support.commands import Run, runner
from tests.support.logs import SUM, write_analysis, write_log
from tests.support.pipes import read_pipe
from tests.support.servers import Client, connected, drained_projections, event, post
from usage_service.commands.exporting import export_log
from usage_service.imports.posting import PostError
from usage_service.log.history import read
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.files import BusyFileError, written_whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACKTEST = ("backtest", "--sample", "--days", "5", "--probes", "10", "--nights", "2", "--budgets", "5")
# Commands before the path of what they write, its name, and how that begins.
WRITING = [
    (("export",), "log.ndjson", b"{"),
    (("export",), "log.ndjson.gz", b"\x1f\x8b"),
    (("export",), "log.parquet", b"PAR1"),
    (("report", "--out"), "report.html", b"<!doctype html>"),
    ((*BACKTEST, "--chart"), "chart.svg", b"<svg"),
    (("replay", "sum.py", "--source", "made.ndjson", "--out"), "result.json", b"{"),
]
KEPT = (("replay", "sum.py", "--source", "made.ndjson", "--checkpoint"), "kept", b"{")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        large = {"text": "x" * 1_000}
        await post(client, event("probe_viewed"), *(event("x_large", data=large) for _ in range(200)))
        await drained_projections(database)
        yield client


@pytest.fixture
def run(client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    write_analysis(tmp_path / "sum.py", SUM)
    write_log(tmp_path / "made.ndjson", 10)
    return runner(capfd, monkeypatch, USAGE_SERVICE_URL=address(client), USAGE_SERVICE_TOKEN="none")


def address(client: Client) -> str:
    return str(client.make_url("")).rstrip("/")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(("words", "name", "begins"), [*WRITING, KEPT])
async def test_a_link_stays_and_its_file_has_it(
    run: Run, tmp_path: Path, words: tuple[str, ...], name: str, begins: bytes
) -> None:
    target, link = tmp_path / "elsewhere" / "target", tmp_path / name
    target.parent.mkdir()
    link.symlink_to(target)
    for _ in ("a new file", "one that is there"):
        code, _, errors = await run(*words, str(link))
        assert code == 0, errors
        assert link.is_symlink()
        assert target.read_bytes().startswith(begins)
        assert names_in(target.parent) == ["target"]


@pytest.mark.parametrize(("words", "name", "begins"), WRITING)
async def test_a_pipe_gets_it(run: Run, tmp_path: Path, words: tuple[str, ...], name: str, begins: bytes) -> None:
    async with read_pipe(tmp_path / name) as pieces:
        code, _, errors = await run(*words, str(tmp_path / name))
    assert code == 0, errors
    assert b"".join(pieces).startswith(begins)
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)


@pytest.mark.parametrize(("words", "begins"), [(("export", "-"), "{"), (("report", "--out", "-"), "<!doctype html>")])
async def test_a_dash_is_the_standard_output(run: Run, tmp_path: Path, words: tuple[str, ...], begins: str) -> None:
    before = names_in(tmp_path)
    code, out, errors = await run(*words)
    assert code == 0
    assert errors.splitlines()[-1].startswith("-: ")
    assert out.startswith(begins)
    assert names_in(tmp_path) == before


async def test_an_export_to_the_standard_output_is_the_log_alone(run: Run, tmp_path: Path) -> None:
    _, out, _ = await run("export", "-")
    await run("export", "log.ndjson")
    assert out == (tmp_path / "log.ndjson").read_text()
    assert [json.loads(line)["position"] for line in out.splitlines()] == list(range(1, 202))


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
async def test_who_reads_only_the_beginning_ends_it_without_a_word(client: Client, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = ["export", "-", "--format", form, "--url", address(client), "--token", "none"]
    with os.fdopen(writer) as unread:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "usage_service", *words, stdout=unread, stderr=PIPE
        )
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (ExitCode.UNREAD, b"")


async def test_what_breaks_off_leaves_the_file_of_a_link(client: Client, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("before")
    (tmp_path / "log.ndjson").symlink_to(tmp_path / "target")
    with suppress(PostError):
        await asyncio.to_thread(export_log, tmp_path / "log.ndjson", "ndjson", 0, f"{address(client)}/none", None)
    assert (tmp_path / "target").read_text() == "before"
    assert names_in(tmp_path) == ["log.ndjson", "target"]


async def test_errors_name_the_path_that_was_given(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").symlink_to(tmp_path / "none" / "target")
    code, out, errors = await run("export", "log.ndjson")
    assert (code, out) == (2, "")
    assert errors.splitlines()[-1] == "usage-service: log.ndjson: No such file or directory; name another file"


@pytest.mark.parametrize(
    "words",
    [("import", "made.ndjson", "--refused", "-"), ("replay", "sum.py", "--source", "made.ndjson", "--out", "-")],
)
async def test_what_cannot_go_to_the_standard_output_is_refused(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    before = names_in(tmp_path)
    code, out, errors = await run(*words)
    assert (code, out) == (2, "")
    assert "name" in errors
    assert names_in(tmp_path) == before


@pytest.mark.parametrize(("words", "name", "begins"), WRITING)
async def test_a_file_that_another_command_writes_is_refused(
    run: Run, tmp_path: Path, words: tuple[str, ...], name: str, begins: bytes
) -> None:
    path, link = tmp_path / name, tmp_path / f"link-{name}"
    link.symlink_to(path)
    with written_whole(path) as others:
        for given in (path, link):
            code, _, errors = await run(*words, str(given))
            assert (code, f"{given.name} is being written by another command" in errors) == (ExitCode.REFUSED, True)
        others.write(b"the other's")
    assert path.read_bytes() == b"the other's"
    code, _, errors = await run(*words, str(path))
    assert code == 0, errors
    assert path.read_bytes().startswith(begins)


async def test_what_a_killed_export_left_is_in_nobodys_way(client: Client, tmp_path: Path) -> None:
    path, left = tmp_path / "log.parquet", tmp_path / "log.parquet.partial"
    script = "import sys, time; from tests.commands.test_what_is_written_goes_where_its_path_leads import hold; hold()"
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path), stdout=PIPE)
    assert killed.stdout is not None
    await killed.stdout.readline()
    with pytest.raises(BusyFileError):
        await asyncio.to_thread(export_log, path, "parquet", 0, address(client), None)
    killed.kill()
    await killed.wait()
    assert left.stat().st_size == 100_000
    await asyncio.to_thread(export_log, path, "parquet", 0, address(client), None)
    assert path.read_bytes()[-4:] == b"PAR1"
    assert sum(batch.num_rows for batch in read(path).batches()) == 201
    assert not left.exists()


def hold() -> None:
    """Write a file that is never done, as an export does that hangs."""
    with written_whole(Path(sys.argv[1])) as file:
        file.write(b"x" * 100_000)
        file.flush()
        print("written", flush=True)
        signal.pause()


async def test_what_many_write_at_once_is_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(letter: str) -> None:
        for _ in range(200):
            with suppress(BusyFileError), written_whole(path) as file:
                file.write(letter.encode() * 1_000)
            content = path.read_bytes() if path.exists() else b""
            assert content in (b"", *(one.encode() * 1_000 for one in "abc"))

    await asyncio.gather(*(asyncio.to_thread(write, letter) for letter in "abc"))
    assert names_in(tmp_path) == ["file"]
