"""`make chaos` finds what it looks for: an event that is taken out of the log is counted as lost, all else is well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos import report, trial
from chaos.faults import FAULTS
from chaos.faults.fault import Fault
from chaos.report import Untried, write_faults
from chaos.stack import Stack, make_template
from chaos.trial import Rates, try_fault

RATES = Rates(singles=20, batches=1)
LOSE_ONE = """
SET session_replication_role = replica;
DELETE FROM event_log WHERE position = (SELECT max(position) FROM event_log WHERE type = 'control_changed');
"""
PAGE = "<!-- faults: begin -->\n<!-- faults: end -->\n"


@contextmanager
def lose_an_event(stack: Stack) -> Iterator[None]:
    """Do what no fault may do, while a builder and a server are killed."""
    stack.sql(LOSE_ONE)
    with FAULTS["kill-builder"].strike(stack), FAULTS["kill-server"].strike(stack):
        yield


def test_a_lost_event_is_found_and_all_else_is_well(
    own_cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "LEAD_SECONDS", 0.5)
    monkeypatch.setattr(trial, "TAIL_SECONDS", 0.5)
    fault = Fault("losing", "an event is lost", lose_an_event, hold=1, back_within=60)
    outcome = try_fault(fault, make_template(own_cluster), tmp_path / "trial", RATES)
    assert (outcome.lost, outcome.twice) == (1, 0)
    assert not outcome.well
    assert outcome.acknowledged > 0
    assert outcome.builds[0] == outcome.builds[1] > 0
    # The reader of the log misses it, too, if it had come that far.
    assert set(outcome.complaints) <= {trial.UNSEEN}


def test_rows_are_replaced_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    monkeypatch.setattr(report, "PATH", page)
    monkeypatch.setattr(report, "machine", lambda: "here and now")
    order = ["first", "second"]
    write_faults([Untried("second", "comes later", "needs root")], order, RATES)
    write_faults([Untried("first", "comes before", "needs root")], order, RATES)
    write_faults([Untried("second", "comes later", "needs more")], order, RATES)
    rows = [line for line in page.read_text().splitlines() if line.startswith("| **")]
    assert [row.partition(":")[0] for row in rows] == ["| **first**", "| **second**"]
    assert "needs more" in rows[1]
