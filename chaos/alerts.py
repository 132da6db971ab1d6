"""When an alert of ops/prometheus/alerts.yml would have fired, by Prometheus' own promtool over what was scraped.

The test of rules that promtool brings is given the series of the trial, one sample a second, and is told that no alert
fires at any second: it answers with those that do.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from bench.stack import ROOT, BenchError
from chaos.observer import Scrape
from tests.support.promtool import PROMTOOL

RULES = ROOT / "ops" / "prometheus" / "alerts.yml"
ALERT = re.compile(r"^\s*- alert: (\w+)$", re.MULTILINE)
WORD = re.compile(r"\b[a-z]\w*\b")
SECONDS = 120


class Fired(NamedTuple):
    """An alert, and the second of the trial from which on it fires."""

    alert: str
    second: int


def first_alerts(scrapes: Sequence[Scrape], since: float, until: float) -> list[Fired]:
    """Return the alerts that fire at some second between two moments, each with the first one; the earliest first."""
    if PROMTOOL is None:
        return []
    seconds = int(until - since)
    names = ALERT.findall(RULES.read_text("utf-8"))
    told = _test_rules(_series(scrapes, since, seconds), names, seconds)
    first: dict[str, int] = {}
    for name, second in told:
        first[name] = min(second, first.get(name, second))
    return sorted((Fired(name, second) for name, second in first.items()), key=lambda fired: fired.second)


def _series(scrapes: Sequence[Scrape], since: float, seconds: int) -> list[dict[str, str]]:
    """Return the samples of every series that an alert asks for, in promtool's notation, one place a second."""
    wanted = set(WORD.findall(RULES.read_text("utf-8")))
    found: dict[str, dict[int, str]] = {}
    of_target: dict[str, set[str]] = {}
    for scrape in scrapes:
        second = round(scrape.at - since)
        if not 0 <= second <= seconds:
            continue
        own = {"job": scrape.job, "instance": scrape.instance}
        known = of_target.setdefault(scrape.instance, set())
        for name in known:  # unless this scrape has it
            found[name][second] = "stale"
        found.setdefault(_name("up", own), {})[second] = f"{int(scrape.text is not None)}"
        for family in text_string_to_metric_families(scrape.text or ""):
            for sample in family.samples:
                if sample.name in wanted:
                    name = _name(sample.name, {**sample.labels, **own})
                    known.add(name)
                    found.setdefault(name, {})[second] = f"{sample.value:g}"
    # What was not scraped in a second has no sample there: the one before counts, as in Prometheus.
    places = range(seconds + 1)
    return [
        {"series": name, "values": " ".join(samples.get(second, "_") for second in places)}
        for name, samples in found.items()
    ]


def _name(metric: str, labels: dict[str, str]) -> str:
    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
    return f"{metric}{{{inside}}}"


def _test_rules(series: list[dict[str, str]], names: Sequence[str], seconds: int) -> list[tuple[str, int]]:
    """Return every alert that fires, at every second."""
    # JSON is YAML. One group of tests, so that the rules are evaluated once.
    asked = [
        {"eval_time": f"{at}s", "alertname": name, "exp_alerts": []} for name in names for at in range(seconds + 1)
    ]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1s",
        "tests": [{"interval": "1s", "input_series": series, "alert_rule_test": asked}],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(test, file)
        file.flush()
        command = [str(PROMTOOL), "test", "rules", file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    output = done.stdout + done.stderr
    fired = [(name, _seconds(at)) for name, at in re.findall(r"alertname: (\w+), time: ([0-9hms]+)", output)]
    if done.returncode and not fired:
        raise BenchError(f"promtool could not test the rules:\n{output[-2000:]}")
    return fired


def _seconds(duration: str) -> int:
    """Return the seconds of a duration such as `1m5s`."""
    units = {"h": 3_600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))
