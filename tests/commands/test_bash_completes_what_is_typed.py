"""bash completes commands, options and their values, by the script that `--show-completion` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
SCRIPT = """
source "$1"; program=$2; shift 2
function=$(complete -p "$program" | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$program" "$@"); COMP_CWORD=$#
"$function" "$program"
printf '%s\\n' "${COMPREPLY[@]}"
"""
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")


def bash(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = Path(sys.executable).parent
    environ = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    command = [str(BASH), "--norc", "-c", script, "completion", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=True)


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what each program prints for bash, which it finds out from who calls it."""
    folder = tmp_path_factory.mktemp("completions")
    for program in ("usage-service", "probe-builder"):
        (folder / program).write_text(bash('"$1" --show-completion; exit $?', program).stdout)
    return folder


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["usage-service", "exp"], {"export", "experiment"}),
        (["usage-service", "popular", "--order", ""], {"most", "least", "trending"}),
        (["usage-service", "hotlist", "un"], {"unpin"}),
        (["probe-builder", "ret"], {"retry"}),
        (["probe-builder", "warehouse", "query", "--for"], {"--format"}),
    ],
)
def test_bash_offers_what_fits(completions: Path, typed: list[str], offered: set[str]) -> None:
    done = bash(SCRIPT, str(completions / typed[0]), *typed)
    assert set(done.stdout.split()) == offered, done.stderr
