"""A replay that is killed, stopped or run again ends with the result of one that went through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.replay.test_replay_results import replay
from tests.support.logs import SUM, line, write_analysis, write_log
from usage_service.local.owned_process import owned_command
from usage_service.replay.analyses import ReplayError
from usage_service.replay.checkpoints import Head

EVENTS = 1_200
KILLS = """
    import os, signal
    from pathlib import Path

    def killed_at(what, done=os.{call}):
        calls = iter(range(10**9))
        def killing(*arguments):
            if next(calls) == int(os.environ.get("KILL_AT", 10**9)):
                os.kill(os.getpid(), signal.{signal})
            return done(*arguments)
        return killing

    os.{call} = killed_at("{call}")
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.ndjson", EVENTS)


def start(analysis: Path, log: Path, checkpoint: Path, kill_at: int | None = None) -> subprocess.Popen[str]:
    words = ["replay", str(analysis), "--source", str(log), "--checkpoint", str(checkpoint), "--every", "100"]
    variables = dict(os.environ) | ({"KILL_AT": str(kill_at)} if kill_at is not None else {})
    return subprocess.Popen(
        owned_command([sys.executable, "-m", "usage_service", *words]),
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def head_of(checkpoint: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(checkpoint.read_bytes().partition(b"\n")[0])
    return found


@pytest.mark.parametrize(("call", "kill_at"), [("fsync", 20), ("fsync", 21), ("replace", 0)])
def test_killed_while_it_keeps_its_state(tmp_path: Path, log: Path, call: str, kill_at: int) -> None:
    analysis = write_analysis(tmp_path / "killed.py", KILLS.format(call=call, signal="SIGKILL") + SUM)
    plain, checkpoint = write_analysis(tmp_path / "plain.py", SUM), tmp_path / "kept"
    killed = start(analysis, log, checkpoint, kill_at)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    expected = json.loads(replay(plain, log, "--every", "100"))
    assert json.loads(replay(analysis, log, "--checkpoint", str(checkpoint), "--every", "100")) == expected
    assert expected["events"] == EVENTS


def test_killed_at_any_moment_again_and_again(tmp_path: Path, log: Path) -> None:
    analysis, checkpoint = write_analysis(tmp_path / "sum.py", SUM), tmp_path / "kept"
    seen = b""
    for _ in range(2):
        process = start(analysis, log, checkpoint)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            now = checkpoint.read_bytes() if checkpoint.exists() else b""
            if now != seen and b'"position":0,' not in now:
                process.kill()
                seen = now
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        process.communicate(timeout=60)
    expected = json.loads(replay(analysis, log, "--every", "100"))
    assert json.loads(replay(analysis, log, "--checkpoint", str(checkpoint), "--every", "100")) == expected


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stopped_it_keeps_what_it_has(tmp_path: Path, log: Path, name: str) -> None:
    apply = f"""
        import os, signal
        class Stopped:
            def __init__(self):
                self.events = 0
            def apply(self, batch):
                if self.events == 500 and "KILL_AT" in os.environ:
                    os.kill(os.getpid(), signal.{name})
                self.events += batch.num_rows
            def result(self):
                return self.events
    """
    analysis, checkpoint = write_analysis(tmp_path / "stopped.py", apply), tmp_path / "kept"
    process = start(analysis, log, checkpoint, kill_at=0)
    printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert f"stopped at position 899; {checkpoint} has it: run this again to go on" in told
    assert replay(analysis, log, "--checkpoint", str(checkpoint)) == f"{EVENTS}\n"


def test_run_again_it_takes_only_what_is_new(tmp_path: Path) -> None:
    analysis, checkpoint = write_analysis(tmp_path / "sum.py", SUM), str(tmp_path / "kept")
    for events in (100, 100, 250):
        log = write_log(tmp_path / "log.ndjson", events)
        result = json.loads(replay(analysis, log, "--checkpoint", checkpoint, "--every", "50"))
        assert result == json.loads(replay(analysis, log, "--every", "50"))
    assert head_of(Path(checkpoint))["position"] == read_position(log)


def read_position(log: Path) -> int:
    return int(json.loads(log.read_text().splitlines()[-1])["position"])


def test_upto_may_be_raised_and_not_lowered(tmp_path: Path, log: Path) -> None:
    analysis, kept = write_analysis(tmp_path / "sum.py", SUM), ["--checkpoint", str(tmp_path / "kept"), "--every", "10"]
    replay(analysis, log, "--upto", "100", *kept)
    assert head_of(tmp_path / "kept")["position"] == 100
    raised = replay(analysis, log, "--upto", "290", *kept)
    assert json.loads(raised)["events"] == len([number for number in range(1, 291) if number % 3])
    with pytest.raises(ReplayError, match="--upto is before position 290"):
        replay(analysis, log, "--upto", "200", *kept)


def test_what_does_not_fit_is_refused_and_named(tmp_path: Path, log: Path) -> None:
    analysis, checkpoint = write_analysis(tmp_path / "sum.py", SUM), tmp_path / "kept"
    kept = ["--checkpoint", str(checkpoint)]
    replay(analysis, log, *kept)
    before = checkpoint.read_bytes()
    options = {"--type": "x_mine", "--product": "fog", "--since": "2026-11-01", "--after": "7"}
    for option, value in options.items():
        with pytest.raises(ReplayError, match=f"{option} was .* when .* --restart begins anew"):
            replay(analysis, log, *kept, option, value)
    with pytest.raises(ReplayError, match="--source ends before position"):
        replay(analysis, write_log(tmp_path / "short.ndjson", 10), *kept)
    other = tmp_path / "other.ndjson"
    other.write_text(log.read_text().replace(str(line(read_position(log))["event_id"]), str(line(1)["digest"])))
    with pytest.raises(ReplayError, match="--source has another event 1799 than"):
        replay(analysis, other, *kept)
    analysis.write_text(analysis.read_text() + "\n# changed\n")
    with pytest.raises(ReplayError, match=r"sum.py has changed since .* --restart begins anew"):
        replay(analysis, log, *kept)
    assert checkpoint.read_bytes() == before
    assert json.loads(replay(analysis, log, *kept, "--restart"))["events"] == EVENTS


@pytest.mark.parametrize("content", [b"", b"something else", b'{"format":1}\n', b"\xff\xfe\n"])
@pytest.mark.parametrize("words", [(), ("--restart",)])
def test_what_is_no_checkpoint_is_never_written_over(
    tmp_path: Path, log: Path, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "kept").write_bytes(content)
    with pytest.raises(ReplayError, match=r"is not a checkpoint .* name another file, or remove it"):
        replay(write_analysis(tmp_path / "sum.py", SUM), log, "--checkpoint", str(tmp_path / "kept"), *words)
    assert (tmp_path / "kept").read_bytes() == content


@pytest.mark.parametrize("words", [(), ("--restart",)])
def test_what_a_replay_reads_is_no_checkpoint(tmp_path: Path, log: Path, words: tuple[str, ...]) -> None:
    analysis = write_analysis(tmp_path / "sum.py", SUM)
    before = analysis.read_bytes(), log.read_bytes()
    for path in (analysis, log):
        with pytest.raises(ReplayError, match="is not a checkpoint"):
            replay(analysis, log, "--checkpoint", str(path), *words)
    assert (analysis.read_bytes(), log.read_bytes()) == before


def test_a_checkpoint_is_a_file(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for path in ("-", "pipe"):
        with pytest.raises(ReplayError, match=rf"--checkpoint {path}: .* name a file"):
            replay(write_analysis(tmp_path / "sum.py", SUM), log, "--checkpoint", path)


def test_a_checkpoint_of_another_format_or_cut_is_refused(tmp_path: Path, log: Path) -> None:
    analysis, checkpoint = write_analysis(tmp_path / "sum.py", SUM), tmp_path / "kept"
    replay(analysis, log, "--checkpoint", str(checkpoint))
    whole = checkpoint.read_bytes()
    assert set(head_of(checkpoint)) == set(Head.__struct_fields__)
    for content, told in (
        (whole[:-5], "does not load"),
        (whole.replace(b'"format":1', b'"format":2'), "another version"),
    ):
        checkpoint.write_bytes(content)
        with pytest.raises(ReplayError, match=told):
            replay(analysis, log, "--checkpoint", str(checkpoint))


def test_a_state_that_cannot_be_kept_is_told_at_once(tmp_path: Path, log: Path) -> None:
    text = """
        from collections import defaultdict
        class A:
            def __init__(self):
                self.counts = defaultdict(lambda: 0)
            def apply(self, batch):
                raise SystemError("it was run")
            def result(self):
                return 1
    """
    with pytest.raises(ReplayError, match="the state cannot be pickled for --checkpoint"):
        replay(write_analysis(tmp_path / "a.py", text), log, "--checkpoint", str(tmp_path / "kept"))
    with pytest.raises(ReplayError, match="cannot be written"):
        replay(write_analysis(tmp_path / "b.py", SUM), log, "--checkpoint", str(tmp_path / "none" / "kept"))
