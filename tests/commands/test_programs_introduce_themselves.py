"""Both programs tell their version, complete what is typed, and name the extra that brings what they miss."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

PROGRAMS = {"usage-service": "usage_service", "probe-builder": "builder"}
WITHOUT = """
import sys
sys.modules |= dict.fromkeys({missing!r})  # as if they were not installed
sys.argv = [{program!r}, *{arguments!r}]
from {package}.__main__ import main
main()
"""


def ran(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    told = os.environ | environment
    return subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", PROGRAMS[program], *arguments]
    return ran(command, **environment)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_version_is_that_of_the_distribution(program: str) -> None:
    told = run(program, "--version")
    assert (told.returncode, told.stdout) == (0, version("glam-usage") + "\n")


@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("usage-service", "usage-service exp", ["export", "experiment"]),
        ("usage-service", "usage-service popular --pro", ["--product"]),
        ("usage-service", "usage-service token re", ["revoke"]),
        ("probe-builder", "probe-builder ret", ["retry"]),
        ("probe-builder", "probe-builder warehouse s", ["seed", "serve"]),
    ],
)
def test_what_is_typed_is_completed(program: str, typed: str, offered: list[str]) -> None:
    # As the script that `--install-completion` installs asks: by the name the program was called with.
    script = f"import sys; sys.argv = [{program!r}]; from {PROGRAMS[program]}.__main__ import main; main()"
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    told = ran([sys.executable, "-c", script], **asked)
    assert told.stdout.split() == offered, told.stderr


@pytest.mark.parametrize(
    ("program", "arguments", "missing", "extra"),
    [
        ("usage-service", ["popular"], ["typer"], "server"),
        ("usage-service", ["serve"], ["aiohttp"], "server"),
        ("usage-service", ["up"], ["typer"], "local"),
        ("probe-builder", ["run"], ["google.cloud"], "builder"),
        ("probe-builder", ["warehouse", "serve"], ["duckdb"], "local"),
        ("probe-builder", ["etl-demo"], ["sqlglot"], "local"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    program: str, arguments: list[str], missing: list[str], extra: str
) -> None:
    script = WITHOUT.format(missing=missing, program=program, arguments=arguments, package=PROGRAMS[program])
    told = ran([sys.executable, "-c", script])
    assert told.returncode == 2
    assert told.stderr == f"{program}: {missing[0]} is not installed; run: pip install 'glam-usage[{extra}]'\n"


def test_our_own_module_that_is_missing_is_not_hidden() -> None:
    script = WITHOUT.format(missing=["builder.queue"], program="probe-builder", arguments=["run"], package="builder")
    told = ran([sys.executable, "-c", script])
    assert told.returncode == 1
    assert "ModuleNotFoundError" in told.stderr
