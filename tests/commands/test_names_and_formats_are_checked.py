"""A misspelt product, channel or probe is no empty table, and a name that contradicts its format no file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from typer.testing import Result

from tests.support.building import served
from tests.support.commands import called
from tests.support.servers import Client, connected, drained_projections, event, post, registered
from usage_service.log.history import read
from usage_service.shared import remote
from usage_service.shared.errors import UserError
from usage_service.shared.exit_codes import ExitCode

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "http://127.0.0.1:1"
FILE = "views.ndjson"
DAYS = ("--since", "2026-11-20", "--until", "2026-11-21")


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with served(module_database_url) as client, connected(module_database_url) as database:
        await post(
            client,
            event("probe_viewed", probe="gc_ms", visitor="a", channel="nightly"),
            registered("gc_ms", occurred_at="2026-11-19T12:00:00Z"),
        )
        await drained_projections(database)
        yield client


async def asked(client: Client, *words: str) -> Result:
    return await called(*words, "--url", str(client.make_url("/")), "--token", "none")


async def test_the_stack_that_runs_here_is_asked(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is in the directory of its data, while it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USAGE_SERVICE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "port").write_text(f"{client.port}\n")
    assert (await called("popular", "--format", "json", *DAYS)).exit_code == 0
    assert await asyncio.to_thread(lambda: read().end) > 0
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    found = await called("doctor", "--data-dir", "elsewhere", "--format", "json")
    assert f"http://127.0.0.1:{client.port} answers" in found.stdout
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    for place in ({"USAGE_SERVICE_URL": NOWHERE}, {}):
        with monkeypatch.context() as variables:
            for name, value in place.items():
                variables.setenv(name, value)
            elsewhere = () if place else ("--url", NOWHERE)
            assert f"{NOWHERE} does not answer" in str((await called("popular", *elsewhere)).exception)


async def test_a_stack_is_asked_by_its_directory(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words win over variables, and another's over them; one that does not run is not mistaken for another."""
    sent: list[str | None] = []

    def answered(_url: str, token: str | None, *_more: object) -> bytes:
        sent.append(token)
        return b'{"products": [], "probes": [], "next": null}'

    stack, words = tmp_path / "stack", ("popular", "--format", "json", *DAYS)
    stack.mkdir()
    (stack / "token").write_text("of-the-stack\n")
    refused = await called(*words, "--data-dir", str(stack))
    assert refused.exit_code == ExitCode.REFUSED
    assert "no service runs there" in " ".join(refused.output.replace("│", " ").split())
    (stack / "port").write_text(f"{client.port}\n")
    for variables in ({}, {"USAGE_SERVICE_URL": NOWHERE, "USAGE_SERVICE_TOKEN": "another"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        found = await called(*words, "--data-dir", str(stack))
        assert (found.exit_code, found.stdout[:1]) == (0, "["), found.output
    named = await called(*words, "--data-dir", str(stack), "--url", NOWHERE)
    assert f"{NOWHERE} does not answer" in str(named.exception)
    monkeypatch.setattr(remote, "send", answered)
    await called(*words, "--data-dir", str(stack))
    await called(*words, "--data-dir", str(stack), "--token", "own")
    assert set(sent) == {"of-the-stack", "own"}
    misplaced = await called("hotlist", "--data-dir", str(stack), "rules")
    assert "give it after rules" in " ".join(misplaced.output.replace("│", " ").split())


async def test_products_are_listed_with_their_channels(client: Client) -> None:
    response = await client.get("/v1/products")
    assert await response.json() == {"products": [{"product": "fog", "channels": ["nightly"]}]}
    assert (await client.get("/v1/products", headers={"If-None-Match": response.headers["ETag"]})).status == 304


@pytest.mark.parametrize(
    "words",
    [
        ("popular", "--product", "fgo", *DAYS),
        ("unused", "--product", "fgo"),
        ("sessions", "--product", "fgo", *DAYS),
        ("releases", "--product", "fgo"),
        ("releases", "retract", "fgo", "nightly", "100"),
        ("hotlist", "--product", "fgo"),
        ("hotlist", "pin", "fgo", "gc_ms"),
        ("hotlist", "rules", "--product", "fgo"),
        ("hotlist", "hide", "gc_*", "--product", "fgo"),
        ("experiment", "fgo"),
        ("backtest", "--product", "fgo"),
        ("report", "--product", "fgo"),
    ],
)
async def test_an_unknown_product_is_refused_with_the_nearest(client: Client, words: tuple[str, ...]) -> None:
    result = await asked(client, *words)
    assert isinstance(result.exception, UserError), result.output
    assert str(result.exception) == "nothing is known of product fgo; did you mean fog?"
    assert result.exception.exit_code == ExitCode.REFUSED
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("popular", "--channel", "nightli"), "channel nightli; did you mean nightly?"),
        (("popular", "--product", "fog", "--channel", "beta"), "channel beta of fog; there are nightly"),
        (("popular", "--product", "zzz"), "product zzz; there are fog"),
    ],
)
async def test_an_unknown_channel_is_refused(client: Client, words: tuple[str, ...], why: str) -> None:
    result = await asked(client, *words, *DAYS)
    assert str(result.exception) == f"nothing is known of {why}"


async def test_an_unknown_channel_is_refused_where_there_are_rows_all_the_same(client: Client) -> None:
    for words in (("popular", "--order", "least", *DAYS), ("unused", "--since", "2026-11-22")):
        assert (await asked(client, *words, "--product", "fog")).exit_code == 0
        result = await asked(client, *words, "--product", "fog", "--channel", "nightli")
        assert str(result.exception) == "nothing is known of channel nightli of fog; did you mean nightly?"


@pytest.mark.parametrize("rule", ["pin", "exclude"])
async def test_an_unknown_probe_is_refused(client: Client, rule: str) -> None:
    result = await asked(client, "hotlist", rule, "fog", "gc_mss")
    assert str(result.exception) == "the catalogue lists no probe gc_mss of fog; did you mean gc_ms?"
    result = await asked(client, "hotlist", rule, "fog", "zzz")
    assert "lists no probe zzz of fog; `usage-service popular" in str(result.exception)
    assert (await asked(client, "hotlist", rule, "fog", "gc_ms")).exit_code == 0


async def test_a_known_channel_is_asked_for(client: Client) -> None:
    result = await asked(client, "popular", "--channel", "nightly", *DAYS)
    assert result.stdout.splitlines()[1].startswith("fog,gc_ms,1,1,")


async def test_a_known_product_without_rows_is_an_empty_table(client: Client) -> None:
    result = await asked(client, "popular", "--product", "fog", "--since", "2026-01-01", "--until", "2026-01-02")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("name", "form", "why"),
    [
        ("log.csv", "parquet", "a log is written as"),
        ("log.csv", None, "a log is written as"),
        ("log.ndjson", "parquet", "log.ndjson is the name of a file of ndjson"),
        ("log.ndjson.gz", "parquet", "file of ndjson"),
        ("log.PARQUET", "ndjson", "file of parquet"),
        ("log.parquet.gz", None, "a log is written as"),
        ("log.csv.gz", None, "a log is written as"),
    ],
)
async def test_a_name_that_contradicts_its_format_is_refused(
    client: Client, tmp_path: Path, name: str, form: str | None, why: str
) -> None:
    chosen = ("--format", form) if form else ()
    result = await asked(client, "export", str(tmp_path / name), *chosen)
    assert result.exit_code == ExitCode.REFUSED
    assert why in " ".join(result.output.replace("│", " ").split())
    assert not any(await asyncio.to_thread(os.scandir, tmp_path))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("backtest", "--sample", FILE), "made traffic of --sample is replayed"),
        (("backtest", "--sample", "--product", "fog"), "made traffic of --sample is replayed"),
        (("backtest", "--days", "5"), "give --sample"),
        (("backtest", FILE, "--seed", "5"), "give --sample"),
        (("backtest", "--chart", "chart.png"), "chart.png: the name must end in .svg"),
        (("backtest", "--chart", "-"), "-: the name must end in .svg"),
        (("report", "--out", "report.pdf"), "report.pdf: the name must end in .html or .htm"),
    ],
)
async def test_what_would_be_ignored_is_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).touch()
    result = await asked(client, *words)
    assert result.exit_code == ExitCode.REFUSED
    assert why in " ".join(result.output.replace("│", " ").split())
    assert [one.name for one in await asyncio.to_thread(list, os.scandir(tmp_path))] == [FILE]


@pytest.mark.parametrize(
    ("name", "begins"),
    [("log.parquet", b"PAR1"), ("log.PARQUET", b"PAR1"), ("log", b"{"), ("log.txt", b"{")]
    + [(name, b"\x1f\x8b") for name in ("log.ndjson.gz", "log.gz", "log.NDJSON.GZ")],
)
async def test_the_name_says_the_format_and_every_export_is_read(
    client: Client, tmp_path: Path, name: str, begins: bytes
) -> None:
    result = await asked(client, "export", str(tmp_path / name))
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert await positions(tmp_path / name) == await positions(str(client.make_url("/")))


async def positions(source: Path | str) -> list[int]:
    return await asyncio.to_thread(lambda: [one.position for one in read(source, token="none")])


async def test_an_export_from_beyond_the_end_of_the_log_is_refused(client: Client, tmp_path: Path) -> None:
    end = (await positions(str(client.make_url("/"))))[-1]
    result = await asked(client, "export", "--after", f"{end + 1}", str(tmp_path / "log"))
    assert str(result.exception) == f"--after {end + 1}: the log ends at position {end}"
    assert not any(await asyncio.to_thread(os.scandir, tmp_path))
    result = await asked(client, "export", "--after", f"{end}", str(tmp_path / "log"))
    told = result.output.splitlines()[0]  # the server may log, which runs here, that nobody reads on
    assert (result.exit_code, told) == (0, f"{tmp_path / 'log'}: no event: the log ends at position {end}")
