"""Links in the documents lead to files, the guide's commands exist, states are drawn as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder.cli import make_app as make_builder_app
from usage_service.cli import make_app
from usage_service.shared.schema import schema_text

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "usage_service").rglob("*.md")),
]
OPERATING = (ROOT / "docs" / "guides" / "operating.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


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


def test_commands_of_the_guide_exist() -> None:
    found = re.findall(r"(usage-service|probe-builder) ((?:[a-z]+ ?)+)", OPERATING)
    assert ("usage-service", "retention drop ") in found
    for program, words in found:
        app = make_app() if program == "usage-service" else make_builder_app()
        result = CliRunner().invoke(app, [*words.split(), "--help"])
        assert result.exit_code == 0, (program, words)


def test_states_are_drawn_as_they_are() -> None:
    drawn = ARCHITECTURE.partition("## The states of a build")[2].partition("## ")[0]
    edges = re.findall(r"^ +(\S+) --> (\S+)(?:: (.*))?$", drawn, re.MULTILINE)
    builds = schema_text().partition("CREATE TABLE builds (")[2]
    states = re.findall(r"CONSTRAINT state_is_known CHECK \(state IN \(([^)]*)\)\)", builds)[0]
    assert {state for edge in edges for state in edge[:2]} - {"[*]"} == set(re.findall(r"\w+", states))
    letters = set(re.findall(r"^-- ([a-k]): ", schema_text(), re.MULTILINE)) | {"h"}  # told with f
    labels = " ".join(label for _, _, label in edges)
    assert set(re.findall(r"\b([a-k])\b", labels)) == letters
