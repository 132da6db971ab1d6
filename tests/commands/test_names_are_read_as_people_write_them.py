"""Files of names of probes are read with what spreadsheets add; a line that is no name is told by its number."""

from __future__ import annotations

import codecs
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from usage_service.shared.names_file import NamesFileError, read_names

NAMES = "gc_ms\nslow.ms\n"


@pytest.mark.parametrize(
    "content",
    [
        NAMES.encode(),
        codecs.BOM_UTF8 + NAMES.replace("\n", "\r\n").encode(),
        NAMES.encode("utf-16"),
        codecs.BOM_UTF16_BE + NAMES.encode("utf-16-be"),
        b"\n  gc_ms  # the first\n\nslow.ms\ngc_ms",
    ],
)
def test_names_are_read_from_files_and_from_pipes(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert read_names(tmp_path / "names.txt") == ["gc_ms", "slow.ms"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_names(Path("-")) == ["gc_ms", "slow.ms"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"gc_ms\n\nName of the probe\n",
            ", line 3: 'Name of the probe' must be letters, digits, _ . and -, 200 at most",
        ),
        (codecs.BOM_UTF8 + b"product,probe\r\nfog,gc_ms\r\n", "line 1: 'product,probe' must be"),
        (b"gc_ms\x1b[2J", "line 1: 'gc_ms\\\\x1b[2J' must be"),
        (b"", "has no names of probes"),
        (codecs.BOM_UTF8 + b"# none\r\n", "has no names of probes"),
        (b"\xff", "has no names in UTF-8"),
    ],
)
def test_what_is_no_name_is_told_with_its_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(NamesFileError) as refused:
        read_names(tmp_path / "names.txt")
    assert str(refused.value).startswith(str(tmp_path / "names.txt"))
    assert said in str(refused.value)
