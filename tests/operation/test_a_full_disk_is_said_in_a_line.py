"""A command whose file does not fit on the disk says so in a line, and leaves no part of it behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli import main as builder_main
from tests.support.commands import Run, runner
from tests.support.servers import Client, event, post
from tests.support.small_disk import SmallDisk, small_disk
from warehouse.sample.seeding import CATALOGUE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "mounted", 0.125) as mounted:
        yield mounted


@pytest.fixture
def run(client: Client, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capfd, monkeypatch, USAGE_SERVICE_URL=str(client.make_url("")).rstrip("/"))


@pytest.mark.parametrize("name", ["log.ndjson.gz", "log.parquet"])
async def test_of_an_export(name: str, client: Client, run: Run, disk: SmallDisk) -> None:
    for _ in range(3):
        await post(client, *(event("x_large", data={"text": random.randbytes(400).hex()}) for _ in range(200)))
    form = "parquet" if name.endswith("parquet") else "ndjson"
    code, _output, errors = await run("export", str(disk.path / name), "--format", form)
    assert code == 2
    assert "No space left on device; make room, or choose another place" in errors
    assert "Traceback" not in errors
    assert list(disk.path.iterdir()) == []


async def test_of_a_report(client: Client, run: Run, disk: SmallDisk) -> None:
    disk.fill()
    code, _output, errors = await run("report", "--product", "fog", "--out", str(disk.path / "report.html"))
    assert (code, len(errors.splitlines())) == (2, 1), errors
    assert "No space left on device" in errors


def test_of_the_warehouse(disk: SmallDisk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    arguments = ["warehouse", "seed", "--data-dir", str(disk.path / "data"), "--clients", "100"]
    monkeypatch.setattr("sys.argv", ["probe-builder", *arguments])
    with pytest.raises(SystemExit) as ended:
        builder_main()
    assert ended.value.code == 2
    assert "No space left on device" in capfd.readouterr().err
    assert [path.name for path in (disk.path / "data").iterdir()] == [CATALOGUE]  # which is small, and whole
