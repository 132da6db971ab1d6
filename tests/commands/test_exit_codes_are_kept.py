"""Each exit code is kept, the help has them, and each error is one line that says the mend."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import builder.cli
import usage_service.cli
import warehouse.cli
from tests.support.logs import SUM, write_analysis
from usage_service.shared.bigquery.errors import TransientWorkError, WarehouseBusyError
from usage_service.shared.commands import run_program
from usage_service.shared.exit_codes import ExitCode, exit_codes_page

MAINS = {"usage-service": usage_service.cli.main, "probe-builder": builder.cli.main, "warehouse": warehouse.cli.main}


NOT_UTF8 = "odd.txt"
ANALYSIS = "analysis.py"
AWAY = ("--url", "http://127.0.0.1:1", "--token", "none")


@pytest.mark.parametrize(
    ("program", "words", "code", "said"),
    [
        ("usage-service", ("popular", *AWAY), ExitCode.AWAY, "does not answer"),
        ("usage-service", ("token", "list"), ExitCode.AWAY, "was not reached"),
        ("usage-service", ("replay", ANALYSIS), ExitCode.AWAY, "the database 127.0.0.1:1/none cannot be read"),
        (
            "usage-service",
            ("replay", ANALYSIS, "--source", "postgresql://u:pw@nowhere.invalid/db"),
            ExitCode.AWAY,
            "the database nowhere.invalid/db cannot be read",
        ),
        ("probe-builder", ("failed",), ExitCode.AWAY, "did not answer"),
        ("usage-service", ("popular", "--limit", "0"), ExitCode.REFUSED, " popular --help`"),
        ("usage-service", ("popular", "--no-such"), ExitCode.REFUSED, "--no-such"),
        ("usage-service", ("popular", "--product", "fo\udcff", *AWAY), ExitCode.REFUSED, "fo\\udcff is not UTF-8"),
        ("usage-service", ("projections", "add", NOT_UTF8), ExitCode.REFUSED, "is not SQL in UTF-8"),
        (
            "usage-service",
            ("hotlist", "built", "fog", "--channel", "nightly", "--built-at", "2026-11-20", NOT_UTF8, *AWAY),
            ExitCode.REFUSED,
            "has no names in UTF-8",
        ),
        ("usage-service", ("no-such-command",), ExitCode.REFUSED, "no-such-command"),
        ("usage-service", ("hotlist", "--url", "x", "rules"), ExitCode.REFUSED, "give it after rules"),
        (
            "usage-service",
            ("import", "no-such-file"),
            ExitCode.REFUSED,
            "no-such-file: No such file or directory; name",
        ),
        ("usage-service", ("import", NOT_UTF8), ExitCode.REFUSED, "odd.txt"),
        (
            "usage-service",
            ("import", NOT_UTF8, "--format", "csv"),
            ExitCode.REFUSED,
            "there is no csv; there are export,",
        ),
        ("usage-service", ("import", NOT_UTF8, "--rules", ANALYSIS), ExitCode.REFUSED, "analysis.py: is not TOML"),
        ("probe-builder", ("etl-demo", "--url", "ftp://x"), ExitCode.REFUSED, "ftp://x is no address of a service"),
        (
            "warehouse",
            ("query", "SELECT 1", "--url", "ftp://x"),
            ExitCode.REFUSED,
            "ftp://x is no address of a service",
        ),
        ("usage-service", ("hotlist", "--coverage", "95"), ExitCode.REFUSED, "less than or equal to 1"),
        ("warehouse", ("query", "SELECT 1", "--data-dir", "none"), ExitCode.REFUSED, "none"),
        (
            "warehouse",
            ("seed", "--until", "yesterday"),
            ExitCode.REFUSED,
            "a day from 2000-01-01 to 2999-12-31, such as 2026-11-23",
        ),
    ],
)
def test_exit_codes_are_kept_and_each_error_is_a_line(
    program: str,
    words: tuple[str, ...],
    code: ExitCode,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NOT_UTF8).write_bytes(b"\xff")
    write_analysis(Path(ANALYSIS), SUM)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        MAINS[program]()
    assert ended.value.code == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{'python -m ' if program == 'warehouse' else ''}{program}: ")
    assert said in line


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("usage-service", ("token", "list")),
        ("usage-service", ("verify",)),
        ("usage-service", ("projections",)),
        ("usage-service", ("mirror", "status")),
        ("usage-service", ("retention", "drop", "--keep-days", "1", "old")),
        ("usage-service", ("migrate",)),
        ("usage-service", ("replay", ANALYSIS, "--data-dir", "data")),
        ("usage-service", ("replay", ANALYSIS)),
        ("usage-service", ("popular",)),
        ("usage-service", ("export", "log.ndjson")),
        ("probe-builder", ("failed",)),
        ("probe-builder", ("retry", "--all")),
    ],
)
def test_of_a_local_stack_that_does_not_run_no_command_gets_an_answer(
    program: str,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    unused_tcp_port: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "password").write_text("secret\n")
    write_analysis(Path(ANALYSIS), SUM)
    for name in ("DATABASE_URL", "USAGE_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    monkeypatch.setattr("usage_service.shared.options._url", lambda *_: nowhere)
    monkeypatch.setattr("usage_service.log.history.kept_url", lambda: nowhere)
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        MAINS[program]()
    assert ended.value.code == ExitCode.AWAY
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("error", [WarehouseBusyError("backendError", "busy"), TransientWorkError("timeout", "slow")])
def test_a_warehouse_that_may_do_better_later_is_away(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_program("probe-builder", program)
    assert ended.value.code == ExitCode.AWAY
    assert capsys.readouterr().err == f"probe-builder: {error}\n"


@pytest.mark.parametrize("words", [("--version",), ("reference", "api")])
def test_what_nobody_reads_ends_without_a_word(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Leave while something is written: of little nothing is before the end, of much a part."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("sys.argv", ["usage-service", *words])
    monkeypatch.setattr("usage_service.shared.commands.configure_logs", lambda *_: None)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        with pytest.raises(SystemExit) as ended:
            MAINS["usage-service"]()
        sys.stdout.flush()
    assert ended.value.code == ExitCode.UNREAD
    assert capfd.readouterr().err == ""


def test_the_page_is_what_the_command_prints() -> None:
    page = Path(__file__).parents[2] / "docs" / "exit-codes.md"
    assert page.read_text("utf-8") == exit_codes_page(), "run: usage-service reference exit-codes > docs/exit-codes.md"


@pytest.mark.parametrize("program", ["usage-service", "probe-builder"])
def test_the_help_has_the_exit_codes(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    MAINS[program]()
    told = capsys.readouterr().out
    assert all(f" {code.value} " in told for code in ExitCode)
