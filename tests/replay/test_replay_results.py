"""What `usage-service replay` answers: the analysis's result, printed or written; or what is wrong, by line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from tests.support.logs import SUM, write_analysis, write_log
from usage_service.cli import make_app
from usage_service.log.history import LogReadError
from usage_service.replay.analyses import ReplayError
from usage_service.replay.results import ShownFormat, show, table_of, write

ROWS = [{"probe": "gc_ms", "views": 1_200, "seen": [UUID(int=1)]}, {"probe": None, "views": 3, "share": 0.25}]
TABLE = pa.table({"visitor": pa.array([UUID(int=1).bytes, None], pa.uuid()), "views": [2, 1]})


def replay(analysis: Path, log: Path, *words: str) -> str:
    """Run a replay and return what it prints; raise what the command raises."""
    return replayed(analysis, log, *words).stdout


def replayed(analysis: Path, log: Path, *words: str) -> Result:
    with patch("usage_service.shared.commands.configure_logs"):  # it would log to what is closed afterwards
        done = CliRunner().invoke(make_app(), ["replay", str(analysis), "--source", str(log), *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


COUNTS = """
    seen = 0
    def apply(self, batch):
        self.seen += len(batch)
    def result(self):
        return {"n": self.seen}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.ndjson", 100)


def test_a_result_of_no_event_says_what_was_asked_for(tmp_path: Path, log: Path) -> None:
    everything = write_analysis(tmp_path / "all.py", "class All:\n" + COUNTS)
    wrong = replayed(everything, log, "--product", "fenix", "--type", "probe_viewed")
    assert json.loads(wrong.stdout) == {"n": 0}
    assert "none matches --type probe_viewed --product fenix" in wrong.stderr
    assert "none matches" not in replayed(everything, log).stderr


def test_a_product_that_the_log_does_not_name_is_refused_with_the_nearest(tmp_path: Path, log: Path) -> None:
    everything = write_analysis(tmp_path / "all.py", "class All:\n" + COUNTS)
    kept = ("--checkpoint", str(tmp_path / "kept"))
    with pytest.raises(ReplayError, match="nothing is known of product fgo; did you mean fog"):
        replay(everything, log, "--product", "fgo", *kept)
    assert json.loads(replay(everything, log, "--product", "fog", *kept))["n"] > 0


def test_a_part_that_can_have_no_event_is_refused(tmp_path: Path, log: Path) -> None:
    everything = write_analysis(tmp_path / "all.py", "class All:\n" + COUNTS)
    with pytest.raises(ReplayError, match="--after 150: the log ends at position 149"):
        replay(everything, log, "--after", "150")
    assert json.loads(replay(everything, log, "--after", "149")) == {"n": 0}
    with pytest.raises(LogReadError, match="since 2026-11-02 is not before until 2026-11-01"):
        replay(everything, log, "--since", "2026-11-02", "--until", "2026-11-01")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--after", "100", "--upto", "50"), "no position is after 100 and up to 50"),
        (("--after", "50", "--upto", "50"), "no position is after 50 and up to 50"),
        (("--out", "r.csv", "--format", "json"), "the name of --out says the format"),
        (("--restart",), "give --checkpoint"),
        (("--url", "ftp://127.0.0.1"), "is no address of a service"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    analysis = write_analysis(tmp_path / "a.py", "raise SystemError('it was run')")
    refused = CliRunner().invoke(make_app(), ["replay", str(analysis), *words], env={"COLUMNS": "400", "TERM": "dumb"})
    assert (refused.exit_code, told in refused.output) == (2, True)


def test_options_and_the_class_choose_events(tmp_path: Path, log: Path) -> None:
    head = "class Mine:\n    types = ['x_mine']\n"
    mine = write_analysis(tmp_path / "mine.py", head + COUNTS)
    everything = write_analysis(tmp_path / "all.py", "class All:\n" + COUNTS)
    positions = [number for number in range(1, 150) if number % 3]

    def counts(analysis: Path, *words: str) -> int:
        return int(json.loads(replay(analysis, log, *words))["n"])

    assert counts(everything) == 100
    assert counts(mine) == sum(number % 4 == 2 for number in positions)
    assert counts(mine, "--type", "page_viewed") == sum(number % 4 == 0 for number in positions)
    assert counts(everything, "--type", "page_viewed", "--type", "x_mine") == sum(
        number % 2 == 0 for number in positions
    )
    assert counts(everything, "--after", "10", "--upto", "20") == sum(10 < number <= 20 for number in positions)
    times = ["--since", "2026-11-01T01:00", "--until", "2026-11-01T02:00:00+00:00"]
    assert counts(everything, *times) == sum(60 <= number < 120 for number in positions)
    assert counts(everything, "--product", "fenix") == sum(number % 4 == 0 for number in positions)


@pytest.mark.parametrize(
    ("result", "printed"),
    [
        (TABLE, '{"visitor":"00000000-0000-0000-0000-000000000001","views":2}\n{"visitor":null,"views":1}\n'),
        (ROWS[1:], '{"probe":null,"views":3,"share":0.25}\n'),
        (pl.DataFrame({"a": [1]}), '{"a":1}\n'),
        ({"a": pa.scalar(2), "b": np.int64(3)}, '{"a":2,"b":3}\n'),
        ({"when": UUID(int=1), 3: [1]}, '{"when":"00000000-0000-0000-0000-000000000001","3":[1]}\n'),
        ("[bold]as it is[/]", "[bold]as it is[/]\n"),
        ([], "[]\n"),
        (None, "null\n"),
    ],
)
def test_programs_read_json(capsys: pytest.CaptureFixture[str], result: object, printed: str) -> None:
    show(result)
    assert capsys.readouterr().out == printed


def test_people_read_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show(ROWS)
    show(pa.table({"n": list(range(1_001))}))
    show({"a": 1})
    told = capsys.readouterr()
    assert "gc_ms   1200  " in told.out
    assert "the first 1,000 of 1,001 rows" in " ".join(told.err.split())
    assert '{\n  "a": 1\n}' in told.out


@pytest.mark.parametrize(
    ("form", "begins"), [("csv", '"visitor","views"\n'), ("json", "[\n"), ("ndjson", "{"), ("table", "visitor  ")]
)
def test_rows_are_printed_as_asked_for(capfd: pytest.CaptureFixture[str], form: ShownFormat, begins: str) -> None:
    show(TABLE, form)
    assert capfd.readouterr().out.startswith(begins)


def test_results_are_written_in_each_form(tmp_path: Path) -> None:
    for name in ("out.json", "out.ndjson", "out.csv", "out.parquet"):
        write(TABLE, tmp_path / name)
    rows = [{"visitor": str(UUID(int=1)), "views": 2}, {"visitor": None, "views": 1}]
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    assert [json.loads(text) for text in (tmp_path / "out.ndjson").read_text().splitlines()] == rows
    with (tmp_path / "out.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"visitor": str(UUID(int=1)), "views": "2"},
            {"visitor": "", "views": "1"},
        ]
    assert pq.read_table(tmp_path / "out.parquet") == TABLE
    write({"n": 1}, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == {"n": 1}
    with pytest.raises(ReplayError, match=r"is no table; give a name that ends in .json"):
        write({"n": 1}, tmp_path / "out.csv")
    with pytest.raises(ReplayError, match="the result's rows are no table"):
        table_of([{"a": 1}, {"a": [1]}])
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "out.ndjson", "out.csv", "out.parquet"}


def test_where_to_write_is_checked_before_the_work(tmp_path: Path, log: Path) -> None:
    analysis = write_analysis(tmp_path / "a.py", "raise SystemError('it was run')")
    for out, told in (("x.txt", "must end in"), ("none/x.csv", "there is no folder")):
        with pytest.raises(ReplayError, match=told):
            replay(analysis, log, "--out", str(tmp_path / out))


def test_a_result_is_not_written_over_what_is_read(tmp_path: Path, log: Path) -> None:
    analysis, checkpoint, link = write_analysis(tmp_path / "a.py", "1 / 0"), tmp_path / "kept.json", tmp_path / "a.csv"
    link.hardlink_to(analysis)
    before = analysis.read_bytes(), log.read_bytes()
    for out in (log, link, checkpoint):
        words = ["replay", str(analysis), "--source", str(log), "--checkpoint", str(checkpoint), "--out", str(out)]
        refused = CliRunner().invoke(make_app(), words, env={"COLUMNS": "400", "TERM": "dumb"})
        assert (refused.exit_code, "would be written over; name another file" in refused.output) == (2, True)
    assert (analysis.read_bytes(), log.read_bytes(), checkpoint.exists()) == (*before, False)


APPLIES = "    def apply(self, batch): pass\n    def result(self): return 1\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n1 / 0\n", r"a.py:2: when it is imported: ZeroDivisionError"),
        ("x = 1\ndef f(:\n", r"a.py:2: when it is imported: SyntaxError"),
        ("class A:\n    pass\n", "must define one class with apply.* has none"),
        (f"class A:\n{APPLIES}class B:\n{APPLIES}", "must define one class .* has A, B"),
        (f"class A:\n    def __init__(self): self.x = y\n{APPLIES}", "a.py:2: in the constructor: NameError"),
        (f"class A:\n    columns = ['positoin']\n{APPLIES}", "columns: 'positoin'; give a list of position"),
        (
            "class A:\n    def apply(self, batch): pass\n    def result(self):\n        return {}['x']\n",
            "a.py:4: in result",
        ),
    ],
)
def test_what_is_wrong_with_an_analysis_is_told_by_line(tmp_path: Path, log: Path, text: str, told: str) -> None:
    with pytest.raises(ReplayError, match=told):
        replay(write_analysis(tmp_path / "a.py", text), log)


def test_an_event_that_an_analysis_cannot_take_is_found(tmp_path: Path, log: Path) -> None:
    text = """
        def helper(batch):
            return 1 / (40 not in batch.column("position").to_pylist())

        class A:
            def apply(self, batch):
                helper(batch)
            def result(self):
                return 1
    """
    with pytest.raises(ReplayError, match=r"a.py:3: in apply\(\), positions 31 to 44: ZeroDivisionError"):
        replay(write_analysis(tmp_path / "a.py", text), log, "--every", "10")


def test_one_named_analysis_is_chosen_and_helpers_beside_the_file_are_found(tmp_path: Path, log: Path) -> None:
    write_analysis(tmp_path / "replay_test_helper.py", "NUMBER = 7\n")
    text = f"""
from dataclasses import dataclass
from replay_test_helper import NUMBER
class Base:
{APPLIES}
@dataclass
class Analysis(Base):
    n: int = NUMBER
    def result(self): return self.n
"""
    assert replay(write_analysis(tmp_path / "a.py", text), log) == "7\n"


def test_a_source_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogReadError, match="there is no such file"):
        replay(write_analysis(tmp_path / "a.py", SUM), tmp_path / "none.parquet")


def test_the_help_warns_of_checkpoints() -> None:
    shown = CliRunner().invoke(make_app(), ["replay", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    assert "pickle" in shown
    assert "only use your own" in " ".join(shown.replace("│", " ").split())
