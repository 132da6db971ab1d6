"""Entity tags depend on all the code of the service: after a deploy a 304 never confirms an answer of old code."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path

import pytest

from usage_service.hotlist import learning
from usage_service.shared.schema import schema_text
from usage_service.web import server
from usage_service.web.etags import PACKAGE, code_digest, code_files

OURS = "usage_service"


def test_every_module_of_the_server_is_in_the_digest() -> None:
    loaded = [module for name, module in sys.modules.items() if name.partition(".")[0] == OURS]
    files = {Path(inspect.getfile(module)) for module in loaded if module.__name__ != OURS or module.__file__}
    assert {Path(inspect.getfile(server)), Path(inspect.getfile(learning))} <= files
    assert len(files) > 100
    assert files <= set(code_files())


@pytest.mark.parametrize("suffix", [".sql", ".html", ".json", ".css", ".js"])
def test_so_is_what_they_read(suffix: str) -> None:
    there = set(PACKAGE.rglob(f"*{suffix}"))
    assert there
    assert there <= set(code_files())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    copied = tmp_path / OURS
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def test_the_same_code_has_the_same_digest(package: Path) -> None:
    assert code_digest(package, schema_text()) == code_digest(PACKAGE, schema_text())


def test_a_change_anywhere_changes_it(package: Path) -> None:
    seen = {code_digest(package, schema_text())}
    for path in (*sorted(package.rglob("*.py"))[::30], *sorted(package.rglob("*.sql"))[::10]):
        path.write_bytes(path.read_bytes() + b"\n")
        digest = code_digest(package, schema_text())
        assert digest not in seen, path
        seen.add(digest)


def test_so_does_a_new_folder_a_move_and_the_schema(package: Path) -> None:
    digests = [code_digest(package, schema_text()), code_digest(package, schema_text() + "\n")]
    deep = package / "somewhere" / "deep"
    deep.mkdir(parents=True)
    (deep / "new.py").write_text("x = 1\n")
    digests.append(code_digest(package, schema_text()))
    (deep / "new.py").rename(deep / "moved.py")
    digests.append(code_digest(package, schema_text()))
    assert len(set(digests)) == len(digests)
