"""Links lead to files and headings, commands and options that are named exist, states are drawn as they are."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from builder.cli import make_app as make_builder_app
from tests.support import snippets
from usage_service.cli import make_app
from usage_service.shared.schema import schema_text

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "usage_service").rglob("*.md")),
]
PROGRAMS = {"usage-service": get_command(make_app()), "probe-builder": get_command(make_builder_app())}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)|<(https?:[^>\s]*)>", document.read_text("utf-8")):
        place, _, heading = (target[0] or target[1]).partition("#")
        if "://" in place:
            parts = urlsplit(place)
            assert parts.scheme in ("http", "https"), target
            assert parts.hostname, target
            continue
        there = document.parent / place if place else document
        assert there.exists(), target
        assert not heading or heading in headings(there), target


def headings(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as they are made on the site and elsewhere."""
    text = re.sub(r"(?ms)^( *)```.*?^\1```", "", document.read_text("utf-8"))
    titles = re.findall(r"^#+ +(.*?) *$", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md", "docs/statistics.md"])
def test_places_that_are_named_exist(document: str) -> None:
    named = re.findall(
        r"`((?:usage_service|builder|warehouse|tests|docs|bench|ops|browser)/[\w./]*)`",
        (ROOT / document).read_text("utf-8"),
    )
    assert named
    for place in named:
        assert "..." in place or "<" in place or (ROOT / place).exists(), place


def test_the_readme_is_for_a_person_in_a_hurry() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 100


@pytest.mark.parametrize("document", [*snippets.documents(), "CHANGELOG.md"])
def test_commands_and_options_that_are_named_exist(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    named = re.findall(r"(?:^|`|\$ )((?:usage-service|probe-builder) [a-z][^`\n|#]*)", text, re.MULTILINE)
    for words in (call.split() for call in named):
        command = PROGRAMS[words[0]]
        for word in itertools.takewhile(lambda word: not word.startswith("-"), words[1:]):
            if commands := getattr(command, "commands", None):
                assert word in commands, (document, words)
                command = commands[word]
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, (document, words)


def test_states_are_drawn_as_they_are() -> None:
    drawn = ARCHITECTURE.partition("## The states of a build")[2].partition("## ")[0]
    edges = re.findall(r"^ +(\S+) --> (\S+)(?:: (.*))?$", drawn, re.MULTILINE)
    builds = schema_text().partition("CREATE TABLE builds (")[2]
    states = re.findall(r"CONSTRAINT state_is_known CHECK \(state IN \(([^)]*)\)\)", builds)[0]
    assert {state for edge in edges for state in edge[:2]} - {"[*]"} == set(re.findall(r"\w+", states))
    letters = set(re.findall(r"^-- ([a-k]): ", schema_text(), re.MULTILINE)) | {"h"}  # told with f
    labels = " ".join(label for _, _, label in edges)
    assert set(re.findall(r"\b([a-k])\b", labels)) == letters
