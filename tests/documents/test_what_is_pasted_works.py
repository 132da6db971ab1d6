"""Every command of README and the guides works when it is pasted, one after the other, beside a service.

Guides with tests of their own (`RUN_ELSEWHERE`) take their snippets from the same place.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import Start
from tests.support.servers import Connection, drained_projections, event, post, registered
from tests.support.snippets import (
    NOT_RUN,
    ROOT,
    SHOWN,
    Shell,
    all_snippets,
    documents,
    snippets,
)
from usage_service.shared.settings import ServerSettings
from warehouse.sample.probes import sample_probes

PASTED = [
    "docs/guides/access.md",
    "docs/guides/access-logs.md",
    "docs/guides/app.md",
    "docs/guides/builds.md",
    "docs/guides/etl.md",
    "docs/guides/follow.md",
    "docs/guides/glam.md",
    "docs/guides/history.md",
    "docs/guides/incidents.md",
]
SHELLS = ("sh", "sql")
PROBES = {probe.name for probe in sample_probes(300)}
TOKEN = "the operator's token of this test"
LOG_LINE = (
    '203.0.113.7 - - [24/Nov/2026:10:00:00 +0000] "GET /fog/probe/gc_ms/explore HTTP/1.1" 200 12 "-" "Firefox/150"\n'
)
# Elsewhere than in this file: the document, the languages, and the test that runs them.
RUN_ELSEWHERE = {
    ("docs/guides/access-logs.md", "toml"): "tests/imports/test_rules_are_checked.py",
    ("docs/guides/app.md", "python"): "tests/client/test_client_guide_is_true.py",
    ("docs/guides/app.md", "js"): "tests/client/test_what_happens_in_a_browser_is_recorded.py",
    ("docs/guides/app.md", "html"): "tests/client/test_what_happens_in_a_browser_is_recorded.py",
    ("docs/guides/etl.md", "console"): "tests/hotlist/test_etl_guide_is_true.py",
    ("docs/guides/etl.md", "python"): "tests/hotlist/test_etl_guide_is_true.py",
    ("docs/guides/glam.md", "python"): "tests/client/test_the_change_to_glam_is_as_its_guide_says.py",
    ("docs/guides/glam.md", "html"): "tests/client/test_the_change_to_glam_is_as_its_guide_says.py",
    ("docs/guides/glam.md", "js"): "tests/client/test_the_change_to_glam_is_as_its_guide_says.py",
    ("docs/guides/mirror.md", "sql"): "tests/mirror/test_the_mirror_guide_is_answered.py",
    ("docs/guides/replay.md", "console"): "tests/replay/test_replay_guide_is_true.py",
    ("docs/guides/replay.md", "python"): "tests/replay/test_replay_guide_is_true.py",
    ("docs/guides/replay.md", "sql"): "tests/projections/test_projection_guide_is_true.py",
    ("docs/guides/warehouse.md", "python"): "tests/warehouse/test_warehouse_answers_the_real_client.py",
    ("docs/tutorial.md", "sh"): "tests/local/test_up_runs_the_main_job.py",
}


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl to paste commands to")
@pytest.mark.parametrize("document", PASTED)
async def test_what_is_pasted_works(
    start: Start, settings: ServerSettings, database: Connection, database_url: str, tmp_path: Path, document: str
) -> None:
    client = await start(msgspec.structs.replace(settings, token=TOKEN))
    client.session.headers["Authorization"] = f"Bearer {TOKEN}"
    names = {"gc_ms", "slow_ms", *PROBES}
    await post(client, *(registered(name) for name in sorted(names)), event("probe_viewed"))
    await drained_projections(database)
    (tmp_path / "access.log").write_text(LOG_LINE)
    shell = Shell(
        tmp_path,
        str(client.make_url("/")),
        DATABASE_URL=database_url,
        USAGE_SERVICE_TOKEN=TOKEN,
        XDG_STATE_HOME=str(tmp_path),
    )
    made = f"{sys.executable} {ROOT}/docs/examples/sample_events.py > events.ndjson"
    await asyncio.to_thread(shell.run, made)
    for text, language in {one.text: one.language for one in snippets(document, *SHELLS)}.items():  # equal ones once
        if language == "sql":
            await database.fetch(text)
        else:
            await asyncio.to_thread(shell.run, text.replace("/var/log/nginx/", f"{tmp_path}/"))


@pytest.mark.parametrize("document", documents())
def test_what_is_asked_about_a_probe_is_asked_about_one_of_the_sample(document: str) -> None:
    """Readers paste it beside `make run`, whose catalogue has no other probes."""
    for one in snippets(document, "sh"):
        named = re.findall(r'"probe": "(\w+)"|/probes/fog/(\w+)', one.text)
        assert {name for names in named for name in names if name} <= PROBES, one


@pytest.mark.parametrize("document", documents())
def test_every_snippet_is_run_or_its_reason_is_told(document: str) -> None:
    for one in all_snippets(document):
        assert one.language, f"{document}:{one.line} says no language"
        if one.language in SHOWN:
            pasted = re.search(r"^(usage-service|probe-builder|curl|\$) ", one.text, re.MULTILINE)
            assert not pasted or "[OPTIONS]" in one.text, one
            continue
        run = document in PASTED and one.language in SHELLS
        assert run or one.reason_not_run() or (document, one.language) in RUN_ELSEWHERE, one


def test_who_runs_snippets_takes_them_from_the_document() -> None:
    for (document, language), place in RUN_ELSEWHERE.items():
        taken = re.findall(r'snippets\(\s*"([^"]+)"((?:, "\w+")+)', (ROOT / place).read_text("utf-8"))
        assert any(name == document and f'"{language}"' in languages for name, languages in taken), (document, place)
        assert any(one.language == language for one in all_snippets(document)), (document, language)


def test_what_is_not_run_is_there_and_has_a_reason() -> None:
    for (document, begins), reason in NOT_RUN.items():
        assert [one for one in all_snippets(document) if one.text.startswith(begins)], (document, begins)
        assert len(reason) > 20
        for place in re.findall(r"tests/[\w/.]*\w", reason):
            assert (ROOT / place).exists(), place


def test_examples_are_those_shown() -> None:
    """A snippet whose first line names a file of docs/examples is that file."""
    named = [
        (*re.split(r"\n", one.text, maxsplit=1), one.document)
        for document in documents()
        for one in all_snippets(document)
        if re.match(r"(#|--) docs/examples/", one.text)
    ]
    for first, text, document in named:
        assert (ROOT / first.split()[1]).read_text("utf-8") == text, (document, first)
    shown = {first.split()[1] for first, _, _ in named}
    examples = {
        str(path.relative_to(ROOT)) for path in (ROOT / "docs/examples").iterdir() if path.suffix in (".py", ".sql")
    }
    assert examples - shown == {"docs/examples/sample_events.py"}


def test_code_stands_in_fences() -> None:
    """A block that is only indented would not be found."""
    for document in documents():
        text = re.sub(r"(?ms)^( *)```.*?^\1```", "", (ROOT / document).read_text("utf-8"))
        assert not re.search(r"^\n {4}(?!\s*[-*\d])\S", text, re.MULTILINE), document
