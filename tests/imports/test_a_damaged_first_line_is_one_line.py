"""What is wrong with the first line of a file costs that line, and neither the file nor how the others are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from usage_service.imports.importing import try_file

VIEW = {"type": "probe_viewed", "occurred_at": "2026-08-26T10:00:00Z", "product": "fog", "probe": "gc_ms"}
GOOD = json.dumps(VIEW | {"data": {"found": True}})
RECORD = json.dumps({"timestamp": "2026-08-26T10:00:00Z", "probe_name": "gc_ms", "product": "fog"})
FIRST = ["{", '{"type":', '{"type": "probe_viewed",', "[]", '["a text"]', "[info] started", "[" * 5_000, "a, b; c", '"']


@pytest.mark.parametrize("good", [GOOD, RECORD], ids=["events", "records"])
def test_the_first_line_alone_is_refused(tmp_path: Path, good: str) -> None:
    path = tmp_path / "a file"
    for first in FIRST:
        path.write_text("\n".join([first, good, good]))
        stats = try_file(path).stats
        assert stats.statuses == {"would send": 2, "refused": 1}, first
        assert stats.refusals[0].startswith("a file:1: "), first


def test_arrays_and_documents_are_read_however_they_are_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    one = json.loads(GOOD)
    laid_out = {
        2: [f"[{GOOD},\n{GOOD}]", f"[\n{GOOD},\n{GOOD}\n]", f"[\n{GOOD}\n,{GOOD}\n]", json.dumps([one, one], indent=2)],
        1: [GOOD, f"[{GOOD}]", f"\n[\n{GOOD}\n]\n", json.dumps(one, indent=1)],
    }
    for number, texts in laid_out.items():
        for text in texts:
            path.write_text(text)
            assert try_file(path).stats.statuses == {"would send": number}, text
