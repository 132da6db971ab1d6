"""Both programs tell their version, name the extra that brings what they miss, and have the same options."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from usage_service.shared import launch
from usage_service.shared.commands_reference import commands_reference

ROOT = Path(__file__).parents[2]
PROGRAMS = {"usage-service": "usage_service", "probe-builder": "builder"}
WITHOUT = """
import sys

class Missing:  # as if they were not installed
    def find_spec(self, name, path=None, target=None):
        if name in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
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
    ("program", "arguments", "missing", "extra"),
    [
        ("usage-service", ["popular"], ["typer"], "server"),
        ("usage-service", ["serve"], ["aiohttp"], "server"),
        ("usage-service", ["up"], ["typer"], "local"),
        ("usage-service", ["mirror"], ["google.cloud"], "mirror"),
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
    assert told.stderr == f"{program}: {missing[0]} is not installed; run: pip install '{ROOT}[{extra}]'\n"


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ('{"url": "file:///home/ann/a%20checkout", "dir_info": {}}', "/home/ann/a checkout"),
        ('{"url": "file:///tmp/glam_usage.whl", "archive_info": {}}', "glam-usage"),
        (None, "glam-usage"),
    ],
)
def test_extras_are_installed_from_where_the_program_came_from(
    monkeypatch: pytest.MonkeyPatch, told: str | None, place: str
) -> None:
    monkeypatch.setattr(launch, "distribution", lambda _name: SimpleNamespace(read_text=lambda _file: told))
    assert launch.installing("server") == f"pip install '{place}[server]'"


def test_our_own_module_that_is_missing_is_not_hidden() -> None:
    script = WITHOUT.format(missing=["builder.queue"], program="probe-builder", arguments=["run"], package="builder")
    told = ran([sys.executable, "-c", script])
    assert told.returncode == 1
    assert "ModuleNotFoundError" in told.stderr


@pytest.mark.parametrize("program", ["usage_service.cli", "builder.cli"])
def test_whoever_asks_a_service_takes_a_stacks_directory(program: str) -> None:
    page = commands_reference("a program", program)
    asking = [section for section in page.split("\n### ") if "| `--url` | `that of data/port" in section]
    assert asking
    assert not [section.partition("\n")[0] for section in asking if "| `--data-dir` | `data` |" not in section]
