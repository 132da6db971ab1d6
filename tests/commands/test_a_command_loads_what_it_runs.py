"""A command comes without the others; what a person can mend is one line, and what nobody can is not hidden."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import builder.cli
import usage_service.cli
from usage_service.commands.places import GROUPS
from usage_service.shared.commands import run_program
from usage_service.shared.errors import UserError

LOADED = "import sys, {0}; {0}.make_app({1!r}); print(*sys.modules)"


def loaded(program: str, *arguments: str) -> set[str]:
    """Return the modules in a process of its own."""
    command = [sys.executable, "-c", LOADED.format(program, list(arguments))]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())


def test_a_command_comes_without_the_others() -> None:
    tokens, failed = loaded("usage_service.cli", "token", "list"), loaded("builder.cli", "failed")
    assert "usage_service.commands.tokens" in tokens
    assert not tokens & {"usage_service.web.server", "usage_service.commands.exporting", "pyarrow", "numpy"}
    assert "builder.commands.dead_letters" in failed
    assert not failed & {"builder.commands.running", "warehouse.engine", "duckdb", "google.cloud.bigquery"}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("no-such-command",)])
@pytest.mark.parametrize("program", [usage_service.cli, builder.cli])
def test_without_one_all_are_there(program: ModuleType, arguments: tuple[str, ...]) -> None:
    app = program.make_app(arguments)
    named = [command.name for command in app.registered_commands] + [group.name for group in app.registered_groups]
    assert sorted(map(str, named)) == sorted(name for places in program.GROUPS.values() for name in places)


@pytest.mark.parametrize("shells", ["COMP_WORDS", "_TYPER_COMPLETE_ARGS"])
@pytest.mark.parametrize(
    ("typed", "loads"),
    [
        ("usage-service exp", {"export", "experiment"}),
        ("usage-service hotlist un", {"hotlist"}),
        ("usage-service ", set()),
        ("usage-service --ver", set()),
    ],
)
def test_what_completes_a_word_comes_without_the_others(
    shells: str, typed: str, loads: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shells, typed)
    app = usage_service.cli.make_app()
    loaded = {str(one.name) for one in app.registered_commands} | {str(one.name) for one in app.registered_groups}
    assert loaded == (loads or {name for places in GROUPS.values() for name in places})


def test_garbage_is_collected_once_it_runs() -> None:
    collected: list[bool] = []
    gc.disable()  # as while it is loaded
    run_program("program", lambda: collected.append(gc.isenabled()))
    assert collected == [True]


@pytest.mark.parametrize("error", [UserError("set X"), ExceptionGroup("both", [UserError("set X"), UserError("too")])])
def test_what_can_be_mended_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_program("program", app)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "program: set X\n"


@pytest.mark.parametrize("word", ["none/x.svg", "--chart=none/x.svg"])
def test_a_file_that_is_named_and_cannot_be_opened_is_one_line(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    def app() -> None:
        Path("none/x.svg").write_text("")

    monkeypatch.setattr("sys.argv", ["program", word])
    with pytest.raises(SystemExit) as ended:
        run_program("program", app)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "program: none/x.svg: No such file or directory; name another file\n"
    monkeypatch.setattr("sys.argv", ["program"])
    with pytest.raises(FileNotFoundError):  # ours
        run_program("program", app)


@pytest.mark.parametrize("error", [KeyError("x"), ExceptionGroup("mixed", [UserError("set X"), KeyError("x")])])
def test_what_is_our_mistake_is_not_hidden(error: Exception) -> None:
    def app() -> None:
        raise error

    with pytest.raises(type(error)):
        run_program("program", app)
