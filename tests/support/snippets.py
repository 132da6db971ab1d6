"""Find what the documents tell a reader to paste, and run it as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HERE = "http://127.0.0.1:8080"  # where the documents have the service
# What is shown, not pasted: output, and pictures made of text.
SHOWN = ("text", "json", "mermaid")

# What is not run: the document, how the snippet begins, and why.
NOT_RUN = {
    ("CONTRIBUTING.md", "make setup"): "makes an environment of its own, which takes minutes; CI begins with it",
    (
        "README.md",
        "make run",
    ): "makes an environment first; tests/local begins with the `usage-service up` that it calls",
    ("README.md", "make test"): "runs all tests, of which this is one",
    ("docs/guides/app.md", "pip install"): "installs into the app's environment, which"
    " tests/operation/test_extras_bring_what_is_imported.py holds to what is imported",
    ("docs/guides/etl.md", "probe-builder night"): "takes a builder and pings: tests/nights runs it with both",
    (
        "docs/guides/glam-tables.md",
        "export PROBE_BUILDER_SINK_DATASET",
    ): "writes to a BigQuery of one's own; the same is"
    " done with the embedded warehouse in tests/builder/test_rows_reach_a_sink.py",
    (
        "docs/guides/glam.md",
        "curl -s 'https://glam.telemetry",
    ): "asks a service elsewhere; what it answers is imported by tests/imports/test_glams_usage_records_come_back.py",
    ("docs/guides/mirror.md", "pip install"): "goes on until it is stopped: tests/mirror/test_the_mirror_is_the_log.py",
    (
        "docs/guides/mirror.md",
        "probe-builder warehouse query",
    ): "is for the warehouse of `make run`, whose port it says: tests/warehouse/test_warehouse_commands.py asks one",
    ("docs/guides/mirror.md", "usage-service verify --in bigquery"): "needs a mirror that has the log:"
    " tests/mirror/test_projections_are_computed_in_bigquery.py",
    ("docs/guides/mirror.md", "usage-service retention drop"): "needs a mirror that has the log:"
    " tests/mirror/test_retention_leans_on_the_mirror.py",
    ("docs/guides/mirror.md", "usage-service retention restore"): "needs what was dropped:"
    " tests/mirror/test_retention_leans_on_the_mirror.py",
    (
        "docs/guides/notebooks.md",
        "pip install",
    ): "installs Jupyter: tests/documents/test_notebooks_run.py runs the cells without it",
    (
        "docs/guides/operating.md",
        "CREATE ROLE glam",
    ): "is for a pooler: tests/operation/test_a_pooler_may_stand_between.py",
    ("docs/guides/operating.md", "DATABASE_URL=postgresql"): "is an address of two hosts:"
    " tests/operation/test_a_standby_takes_over.py has two",
    (
        "docs/guides/operating.md",
        "pg_dump",
    ): "is run by tests/operation/test_a_backup_is_the_same_system.py, word by word",
    ("docs/guides/operating.md", "psql --dbname"): "is run by tests/operation/test_a_backup_is_the_same_system.py",
    ("docs/guides/operating.md", "usage-service retention"): "takes events of more than a year:"
    " tests/log/test_old_events_leave_and_come_back.py has them",
    ("docs/guides/operating.md", "SELECT * FROM close_gap()"): "is for a log with a gap, and refuses any other:"
    " tests/log/test_restoring_takes_only_what_fits.py",
    (
        "docs/guides/operating.md",
        "export OTEL",
    ): "needs a collector: tests/web/test_traces_cost_nothing_and_no_answer.py",
    ("docs/guides/operating.md", "ops/new-passwords"): "takes Docker or Podman:"
    " tests/operation/test_the_composition_runs.py",
    ("docs/guides/operating.md", "docker compose"): "takes Docker or Podman:"
    " tests/operation/test_the_composition_runs.py",
    ("docs/tutorial.md", "git clone"): "makes an environment of its own; tests/local begins with the `usage-service up`"
    " that `make run` calls",
}


class Snippet(NamedTuple):
    """Block of code in a document, and the line that it begins at."""

    document: str
    line: int
    language: str
    text: str

    def reason_not_run(self) -> str | None:
        """Return why it is not run, None where it is."""
        begins = (
            why for (name, start), why in NOT_RUN.items() if name == self.document and self.text.startswith(start)
        )
        return next(begins, None)


def documents() -> list[str]:
    """Return the documents, by their paths from the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def all_snippets(document: str) -> list[Snippet]:
    """Return every block of code of a document, in its order; those in lists lose their indentation."""
    text = (ROOT / document).read_text("utf-8")
    blocks = re.finditer(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [
        Snippet(document, text.count("\n", 0, found.start()) + 1, found[2], re.sub(f"(?m)^{found[1]}", "", found[3]))
        for found in blocks
    ]


def snippets(document: str, *languages: str) -> list[Snippet]:
    """Return the blocks of these languages that are to be run, in the order of the document."""
    return [one for one in all_snippets(document) if one.language in languages and not one.reason_not_run()]


def commands_of(snippet: Snippet) -> list[tuple[str, str]]:
    """Return each command of a console that is shown, and the output under it."""
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", snippet.text, re.MULTILINE)


def has_shape(printed: object, shown: object) -> bool:
    """Tell whether what was printed has every key and word that is shown; numbers may differ."""
    if isinstance(shown, dict):
        return isinstance(printed, dict) and all(
            key in printed and has_shape(printed[key], shown[key]) for key in shown
        )
    if isinstance(shown, list):
        return isinstance(printed, list) and bool(printed) and all(has_shape(printed[0], one) for one in shown)
    return printed == shown if isinstance(shown, str) else type(printed) is type(shown)


class Shell:
    """A reader's shell: what one snippet exports is there for the next."""

    def __init__(self, folder: Path, url: str, **environment: str) -> None:
        self.folder, self.url = folder, url.rstrip("/")
        self._state = folder / ".exported"
        kept = {
            name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "USAGE_SERVICE_TOKEN")
        }
        self._environment = kept | {
            "USAGE_SERVICE_URL": self.url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        } | environment  # fmt: skip

    def run(self, text: str) -> str:
        """Run a snippet and return what it prints; a command that fails fails the test."""
        text = text.replace(HERE, self.url)
        script = f"[ ! -e {self._state} ] || . {self._state}\n{text}\nexport -p > {self._state}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout
