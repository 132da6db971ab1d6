"""`usage-service import` of access logs sends views, tells what matched no rule, and no addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import Run, runner
from tests.support.fake_service import fake_service

LOG = Path(__file__).parents[1] / "data" / "imports" / "access-log" / "combined.log"
RULES = """
[[rule]]
name = "everything"
path = '/.*'
events = ["page_viewed"]
"""


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capfd, monkeypatch)


async def test_views_are_sent_and_addresses_are_not(run: Run, tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    with fake_service() as service:
        code, out, _ = await run("import", str(LOG), "--url", service.url, "--refused", str(refused))
        sent = repr(service.events)
    assert code == 1
    assert len(service.events) == 7
    assert "no rule matches '/about': 1" in out
    for secret in ("192.0.2", "2001:db8", "a@example.org", "frank"):
        assert secret not in sent
        assert secret not in out
    assert len(refused.read_text().splitlines()) == 5


async def test_rules_of_ones_own_decide(run: Run, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    with fake_service() as service:
        _, out, _ = await run("import", str(LOG), "--url", service.url, "--rules", str(rules))
        sent = repr(service.events)
        assert "probe_viewed" not in sent
        assert "/about" in sent
        assert "no rule matches 'POST /api/v1/data/': 1" in out
        assert "no rule matches '/" not in out
        rules.write_text(RULES.replace(".*", "("))
        code, _, errors = await run("import", str(LOG), "--url", service.url, "--rules", str(rules))
    assert code == 2
    assert "rules.toml: rule 1 (everything): path: is no regular expression" in errors
    assert "Traceback" not in errors
