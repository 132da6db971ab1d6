"""Every line is an event, or is told with its number, field and reason; one that cannot be read spoils no other."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.logs import write_log
from usage_service.imports import source as sources
from usage_service.imports.importing import Trial, try_file
from usage_service.imports.json_items import items
from usage_service.imports.lines import NO_OPTIONS, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import STDIN, Source
from usage_service.log import exports
from usage_service.log.history import read


def event(page: str, **fields: object) -> bytes:
    made = {"type": "page_viewed", "occurred_at": "2026-11-20T12:00:00Z", "data": {"page": page}}
    return json.dumps(made | fields).encode()


GOOD = [event(f"/{number}") for number in range(3)]
LINES = b"\n".join(GOOD)
HEADER = b"product,probe,type,ping\n"
# What is wrong with the second of three lines: itself, and how its refusal begins.
WRONG: dict[str, tuple[bytes, str]] = {
    "a lone surrogate": (event("/x").replace(b"/x", b"\\ud800"), "data/page: holds half a character"),
    "nested too deeply": (b'{"a":' * 100_000, "is not JSON that can be read: it is nested too deeply"),
    "a whole value nested too deeply": (b"[" * 100_000 + b"]" * 100_000, "is not JSON that can be read"),
    "not UTF-8": (b'{"type": "\xff"}', "is not JSON in UTF-8"),
    "NUL before it": (b"\0" * 100 + GOOD[0], "is not JSON"),
    "NUL in it": (event("/a\0b"), "data/page: must be a text without NUL"),
    "cut off": (GOOD[0][:40], "is not JSON"),
    "no object": (b"5", "must be a JSON object"),
    "too long": (b'{"a": "' + b"x" * 2_000_000 + b'"}', "is longer than 1,048,576 bytes"),
    "an unknown field": (event("/x", colour="red"), "colour: is not known"),
    "an unknown type": (event("/x", type="seen"), "type: must be one of"),
    "one of the service's own": (event("/x", type="build_started"), "type: build_started is written by"),
    "no zone": (event("/x", occurred_at="2026-11-20T12:00:00"), "occurred_at: "),
    "outside the calendar": (event("/x", occurred_at="0001-01-01T00:00:00+14:00"), "occurred_at: is before"),
    "before all of it": (event("/x", occurred_at="1970-01-01T00:00:00Z"), "occurred_at: is before 2000"),
    "ahead": (event("/x", occurred_at="2999-01-01T00:00:00Z"), "occurred_at: is more than 24 hours ahead"),
}
# Rows of a table of which the first is wrong.
WRONG_ROWS: dict[bytes, str] = {
    b'fog,"a,counter,metrics': "has a quote that is not closed",
    b'fog,"a"b,counter,metrics': "',' expected after '\"'",
    b"fog," + b"x" * 200_000 + b",counter,metrics": "field larger than field limit",
    b"fog,a,counter,metrics,more": "has 5 cells where the first line has 4",
    b"fog,a": "has 2 cells where the first line has 4",
    b"fog,a\0b,counter,metrics": "holds a NUL character",
    b"fog,\xff,counter,metrics": "is not UTF-8",
}


def tried(path: Path, content: bytes, options: Options = NO_OPTIONS, format_name: str | None = None) -> Trial:
    path.write_bytes(content)
    return try_file(path, options, format_name)


def pages(trial: Trial) -> list[str]:
    return [json.loads(body)["data"]["page"] for body in trial.first]


def test_a_line_that_cannot_be_read_spoils_no_other(tmp_path: Path) -> None:
    for what, (line, why) in WRONG.items():
        trial = tried(tmp_path / "a.ndjson", b"\n".join([GOOD[0], line, GOOD[1]]))
        assert pages(trial) == ["/0", "/1"], what
        [told] = trial.stats.refusals
        assert told.startswith(f"a.ndjson:2: {why}"), what
        assert trial.stats.lines == 3


def test_an_item_that_cannot_be_read_spoils_no_other(tmp_path: Path) -> None:
    for what, (item, _) in WRONG.items():
        for separator in (b",", b",\n"):
            if separator == b"," and what in ("nested too deeply", "cut off", "NUL before it"):
                continue  # on one line, nothing tells where it ends
            trial = tried(tmp_path / "a.json", b"[" + separator.join([GOOD[0], item, GOOD[1]]) + b"]")
            assert pages(trial) == ["/0", "/1"], what
            assert trial.stats.statuses["refused"] == 1, what


def test_a_row_that_cannot_be_read_spoils_no_other(tmp_path: Path) -> None:
    for row, why in WRONG_ROWS.items():
        others = [b"fog,b,counter,metrics", b'fog,"c",counter,metrics', b'fog,"d",counter,"metrics"']
        trial = tried(tmp_path / "a.csv", HEADER + b"\n".join([row, *others]))
        assert [json.loads(body)["probe"] for body in trial.first] == ["b", "c", "d"], row[:40]
        [told] = trial.stats.refusals
        assert told.startswith(f"a.csv:2: {why}"), told


def test_a_cell_may_have_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'product,probe,about\nfog,a,"one\ntwo"\nfog,b,three\n')
    with sources.open_source(path) as source:
        read = [(row.number, source.position, row.values and row.values["about"]) for row in source.rows()]
    assert read == [(2, 3, "one\ntwo"), (4, 4, "three")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_every_way(tmp_path: Path, end: bytes) -> None:
    assert pages(tried(tmp_path / "a.LOG", end.join(GOOD))) == ["/0", "/1", "/2"]
    assert pages(tried(tmp_path / "a.LOG", end.join(GOOD) + end)) == ["/0", "/1", "/2"]
    table = HEADER.replace(b"\n", end) + end.join([b"fog,a,counter,metrics", b"fog,b,counter,metrics"])
    assert tried(tmp_path / "a.csv", table).stats.statuses == {"would send": 2}


def test_packed_and_encoded_files_are_read(tmp_path: Path) -> None:
    halves = LINES[:60], LINES[60:]  # a member may end within a line
    forms: dict[str, bytes] = {
        "a.json": b"[" + b",".join(GOOD) + b"]",
        "a.JSON": json.dumps([json.loads(line) for line in GOOD], indent=2).encode(),
        "a.NDJSON": codecs.BOM_UTF8 + LINES,
        "a.log": LINES.decode().encode("utf-16"),
        "a.txt": codecs.BOM_UTF16_BE + LINES.decode().encode("utf-16-be"),
        "a.ndjson.GZ": gzip.compress(LINES),
        "several.gz": b"".join(map(gzip.compress, halves)),
        "a.zst": bytes(pa.compress(LINES, codec="zstd", asbytes=True)),
        "several.zst": b"".join(pa.compress(half, codec="zstd", asbytes=True) for half in halves),
        "without a name": LINES,
    }
    for name, content in forms.items():
        trial = tried(tmp_path / name, content)
        assert (pages(trial), trial.stats.refusals) == (["/0", "/1", "/2"], []), name


def test_delimiters_are_those_of_the_header(tmp_path: Path) -> None:
    for delimiter in (b",", b";", b"\t"):
        table = (HEADER + b'fog,a,"counter",metrics\n').replace(b",", delimiter)
        assert tried(tmp_path / "a.TXT", codecs.BOM_UTF8 + table).stats.statuses == {"would send": 1}


def test_a_document_on_lines_is_one_event(tmp_path: Path) -> None:
    assert pages(tried(tmp_path / "a.json", json.dumps(json.loads(GOOD[0]), indent=2).encode())) == ["/0"]


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    many = b"\n".join(event(f"/{number}/{number * 7919 % 1_000}") for number in range(2_000)) + b"\n"
    packed = gzip.compress(many)
    cut = tried(tmp_path / "cut.gz", packed[: len(packed) // 2])
    read = cut.stats.statuses["would send"]
    assert 0 < read < 2_000
    assert cut.stats.refusals == [f"cut.gz:{read + 1}: the file ends too early"]
    after = tried(tmp_path / "after.gz", gzip.compress(LINES) + b"something else")
    assert pages(after) == ["/0", "/1", "/2"]
    assert [told.split(": ")[0] for told in after.stats.refusals] == ["after.gz:4"]
    table = gzip.compress(HEADER + b"fog,a,counter,metrics\n" * 4_000)
    assert "ends too early" in tried(tmp_path / "table.gz", table[:-20]).stats.refusals[0]
    frame = pa.compress(many, codec="zstd", asbytes=True)
    assert len(tried(tmp_path / "cut.zst", LINES_ZSTD + frame[:-9]).stats.refusals) == 1


LINES_ZSTD = bytes(pa.compress(LINES + b"\n", codec="zstd", asbytes=True))


def test_a_damaged_export_is_read_up_to_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_A_GROUP", 1_000)
    path, log = tmp_path / "log.parquet", read(write_log(tmp_path / "log.ndjson", 3_000)).table()
    exports.write_batches(path, log.to_batches(max_chunksize=1_000), lambda _: None)
    damage(path, group=2)
    stats = try_file(path).stats
    assert stats.statuses == {"would send": 2_000, "refused": 1}
    assert stats.refusals[0].startswith("log.parquet:2001: the file is damaged: ")
    damage(path, group=0)
    with pytest.raises(UnreadableFileError, match=r"log.parquet: is damaged"):
        try_file(path)


def damage(path: Path, group: int) -> None:
    offset = pq.ParquetFile(path).metadata.row_group(group).column(0).data_page_offset
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(b"\xff" * 100)


def test_a_line_without_end_takes_no_memory() -> None:
    longest = 0

    def blocks() -> Iterator[bytes]:
        yield LINES + b"\n"
        yield from (b"x" * (1 << 16) for _ in range(100))
        yield b"\n" + GOOD[0]

    raw = cast(BufferedReader, BufferedReader(BytesIO(b"".join(blocks()))))
    for line in Source(raw, "a", None).lines():
        longest = max(longest, len(line.text or ""))
        assert line.text is not None or str(line.refusal) == "is longer than 1,048,576 bytes"
    assert line.number == 5
    assert longest < 1_000


def test_items_are_the_same_however_they_come() -> None:
    values = [{"a": [1, {"b": 'x]}"{,'}], "c": "\\"}, 3, 's,"', [], [[1, 2], {}], {"k": "é" * 20}, None]
    arrays = [json.dumps(values, indent=indent).encode() for indent in (None, 1)]
    broken = [b'[{"a":1,\n{"b":2}]', b'[{"a":"x},\n{"b":2}]', b'[1,2]\n{"x":1}', b'[{"a":1}}\n,3]', b"[\n" * 300]
    for array in arrays + broken:
        whole = list(items(iter([array]), 1_000))
        for size in (1, 2, 3, 7, 31):
            pieces = (array[begin : begin + size] for begin in range(0, len(array), size))
            assert list(items(pieces, 1_000)) == whole
    for array in arrays:
        assert [json.loads(item.content) for item in items(iter([array]), 1_000)] == values


def test_the_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BufferedReader(BytesIO(gzip.compress(LINES)))))
    assert pages(try_file(STDIN)) == ["/0", "/1", "/2"]


def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as writers:
        writing = writers.submit(path.write_bytes, gzip.compress(LINES))
        assert pages(try_file(path)) == ["/0", "/1", "/2"]
        assert writing.result(10)


def test_an_answer_without_records_is_nothing(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"[]", b"[ ]\n"):
        assert tried(tmp_path / "a.json", content).stats.lines == 0


def test_a_file_of_which_nothing_can_be_read_says_why(tmp_path: Path) -> None:
    for content, name, why in (
        (b"what is it?", None, "of no format that can be read; --format names one: events"),
        (LINES, "csv", "there is no csv; there are"),
        (b"a,a\n1,2", "catalogue-csv", "the first line must name each column"),
        (b"Probe,probe\n1,2", "catalogue-csv", "the first line must name each column"),
        (event("/a").replace(b"/a", b"/caf\xe9"), None, "a: is not UTF-8 at byte 85; convert it, such as by iconv"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), None, "a: is a spreadsheet; save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", None, "a: is a spreadsheet; save it as CSV"),
        (zipped("a.ndjson"), None, "a: is a zip archive; unpack it"),
        (zipped("a.ndjson"), "events", "a: is a zip archive; unpack it"),
        (bz2.compress(LINES), None, "a: is packed by bzip2; unpack it, or pack it by gzip or zstd"),
        (lzma.compress(LINES), None, "a: is packed by xz; unpack it, or pack it by gzip or zstd"),
        (gzip.compress(LINES)[:5], None, "a: the file ends too early; copy it again"),
        (gzip.compress(LINES)[:60], None, "a: the file ends too early; copy it again"),
        (gzip.compress(LINES)[:5], "events", "a: the file ends too early; copy it again"),
        (parquet(), None, "a is not an exported log: it has no channel, data"),
    ):
        with pytest.raises(UnreadableFileError, match=why):
            tried(tmp_path / "a", content, format_name=name)
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UnreadableFileError, match=why):
            try_file(path)


def zipped(*names: str) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name in names:
            archive.writestr(name, LINES)
    return written.getvalue()


def parquet() -> bytes:
    written = BytesIO()
    pq.write_table(pa.table({"event_name": ["page_view"]}), written)
    return written.getvalue()


@pytest.mark.parametrize("before", ["", "sep={}\r\n", '"sep={}"\n', "SEP={}\n\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["product,probe,type", "Product,PROBE, Type "])
def test_a_table_is_known_by_its_columns_as_spreadsheets_write_them(
    tmp_path: Path, before: str, delimiter: str, header: str
) -> None:
    if not before and delimiter == "|":
        return  # which nothing tells
    table = before.format(delimiter) + f"{header}\r\nfog,a,counter\r\n".replace(",", delimiter)
    trial = tried(tmp_path / "a", table.encode())
    assert (trial.stats.format, trial.stats.statuses) == ("catalogue-csv", {"would send": 1})


def test_a_long_first_line_hides_no_format(tmp_path: Path) -> None:
    for length in (100_000, 1_000_000):
        trial = tried(tmp_path / "a", b"x" * length + b"\n" + LINES)
        assert (pages(trial), trial.stats.statuses["refused"]) == (["/0", "/1", "/2"], 1)


def test_the_format_may_be_said(tmp_path: Path) -> None:
    content = b"\n".join([b"not this"] * 30 + [GOOD[0]])
    assert pages(tried(tmp_path / "a", content, format_name="events")) == ["/0"]
    with pytest.raises(UnreadableFileError):
        tried(tmp_path / "a", content)
