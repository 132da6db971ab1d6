"""Wrong rules are refused in a line that names rule, key and fix; of right ones the first that holds counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.snippets import snippets
from usage_service.imports.lines import NO_OPTIONS, Line, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.rules import NO_FIELDS, Fields, read_rules
from usage_service.imports.stats import MOST_PATHS, ImportStats
from usage_service.imports.web_requests import RequestReader, WebRequest

RULE = """
[[rule]]
name = "probes"
path = '/(?P<product>[a-z]+)/(?P<probe>\\w+)'
events = ["probe_viewed"]
"""
HOME = """
[[rule]]
name = "home"
path = '/'
events = ["page_viewed"]
"""
NOW = "2026-11-23T10:00:00+00:00"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "rules.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


WRONG: list[tuple[str | bytes, str]] = [
    (HOME.replace("'/'", "'/(?=x)'"), "rule 1 (home): path: is no regular expression of RE2 (invalid perl operator"),
    (HOME.replace("'/'", "'/('"), "rule 1 (home): path: is no regular expression of RE2 (missing ): /()"),
    (HOME.replace("'/'", r"'/(a)\1'"), "rule 1 (home): path: is no regular expression of RE2 (invalid escape"),
    (HOME.replace("'/'", "'(x{1000}){1000}'"), "rule 1 (home): path: is no regular expression of RE2 ("),
    (HOME.replace("'/'", "'/(?P<prob>x)'"), "rule 1 (home): path: names the group prob; name groups product,"),
    (HOME.replace("'/'", f"'{'x' * 3_000}'"), "rule 1 (home): path: must have at most 2000 characters"),
    (HOME.replace("path = '/'", ""), "rule 1 (home): path: is missing"),
    (HOME.replace("path", "pat"), "rule 1 (home): pat: is not known; there are product,"),
    (HOME.replace("page_viewed", "page_seen"), "rule 1 (home): events/0: must be one of page_viewed, probe_viewed"),
    (HOME.replace("page_viewed", "probe_viewed"), "rule 1 (home): probe: is needed by probe_viewed; name a group"),
    (HOME.replace('events = ["page_viewed"]', ""), "rule 1 (home): events: say what such a request is, or"),
    (HOME + 'leave_out = "why"', "rule 1 (home): events: say what such a request is, or"),
    (RULE + HOME.replace('"home"', "1"), "rule 2 (1): name: Expected `str`, got `int`"),
    (HOME + 'statuses = ["200"]', "rule 1 (home): statuses/0: Expected `int`, got `str`"),
    (HOME + 'product = "Fog"', "rule 1 (home): product: must be small letters"),
    (HOME.replace("[[rule]]", "[rule]"), "rule: Expected `array`, got `object`; each rule begins with [[rule]]"),
    (HOME.replace("[[rule]]", "[[rules]]"), "rules: is not known; there are rule, hosts"),
    ("", "rule: is missing"),
    ("[[rule]", "is not TOML: Expected ']]' at the end of an array declaration"),
    (b"\xff", "is not TOML: 'utf-8' codec can't decode"),
    ("#" * (1 << 20) + "\n", "is longer than 1,048,576 bytes"),
]  # fmt: skip


def test_the_guides_rule_is_right(tmp_path: Path) -> None:
    [shown] = snippets("docs/guides/access-logs.md", "toml")
    rules = read_rules(written(tmp_path, shown.text))
    assert rules.match("GET", "/fog/probe/gc_ms/table", "app_id=nightly", 200) is not None


def test_wrong_rules_name_rule_key_and_fix(tmp_path: Path) -> None:
    for text, expected in WRONG:
        with pytest.raises(UnreadableFileError) as caught:
            read_rules(written(tmp_path, text))
        told = str(caught.value)
        assert expected in told
        assert "rules.toml: " in told
        assert "\n" not in told
    with pytest.raises(UnreadableFileError, match="No such file"):
        read_rules(tmp_path / "none.toml")


def test_the_first_rule_that_holds_counts(tmp_path: Path) -> None:
    text = """
hosts = ["app.example"]
[[rule]]
name = "new probes"
path = '/p/(?P<probe>\\w+)'
methods = ["GET", "POST"]
statuses = [201]
product = "fenix"
events = ["probe_viewed"]
[[rule]]
name = "probes"
path = '/p/(?P<probe>\\w+)'
product = "fog"
channel = "beta"
events = ["page_viewed", "probe_viewed"]
[rule.query]
channel = ["c", "channel"]
[[rule]]
name = "the rest"
path = '/p/.*'
leave_out = "of no interest"
"""
    rules = read_rules(written(tmp_path, text))
    cases = [
        (("POST", "/p/x", "", 201), Fields(product="fenix", probe="x")),
        (("GET", "/p/x", "", 200), Fields(product="fog", probe="x", channel="beta")),
        (("GET", "/p/x", "channel=esr&c=nightly", 200), Fields(product="fog", probe="x", channel="nightly")),
        (("GET", "/p/x", "channel=&c=", 200), Fields(product="fog", probe="x", channel="beta")),
        (("GET", "/p/x", "a=1&" * 500 + "c=nightly", 200), Fields(product="fog", probe="x", channel="beta")),
        (("GET", "/p/x/", "", 200), NO_FIELDS),
    ]
    for asked, fields in cases:
        matched = rules.match(*asked)
        assert matched is not None
        assert matched.fields == fields
        assert (matched.left_out == "of no interest") is (fields is NO_FIELDS)
    assert rules.match("POST", "/p/x", "", 200) is None
    assert rules.match("GET", "/q", "", 200) is None


def line_of(target: str, status: int = 200, options: Options = NO_OPTIONS, method: str = "GET") -> Line:
    return RequestReader(options).line(1, WebRequest(NOW, target, status, method))


def test_glams_own_rules() -> None:
    seen = {
        target: tuple(event["type"] for event in line_of(target).events) or line_of(target).left_out
        for target in (
            "/", "/fog/probe/gc_ms/explore", "/firefox/probe/gc_ms/table?channel=beta", "/fenix/probe/a.b-c/explore/",
            "/fog/probe/gc_ms", "/public/static/app.js", "/favicon.ico", "/__heartbeat__", "/api/v1/probes/",
            "/thunderbird/probe/x/explore", "http://glam.telemetry.mozilla.org/fog/probe/gc_ms/explore", "*", "",
        )
    }  # fmt: skip
    both = ("page_viewed", "probe_viewed")
    assert seen == {
        "/": ("page_viewed",),
        "/fog/probe/gc_ms/explore": both,
        "/firefox/probe/gc_ms/table?channel=beta": both,
        "/fenix/probe/a.b-c/explore/": both,
        "/fog/probe/gc_ms": "no rule matches",
        "/public/static/app.js": "static asset",
        "/favicon.ico": "static asset",
        "/__heartbeat__": "check of health",
        "/api/v1/probes/": "call of the API",
        "/thunderbird/probe/x/explore": "no rule matches",
        "http://glam.telemetry.mozilla.org/fog/probe/gc_ms/explore": both,
        "*": "asks for no path",
        "": "asks for no path",
    }
    assert line_of("/api/v1/data/", method="POST").left_out == (
        "data request, which names its probe in its body: import GLAM's usage records for it"
    )


def test_answers_that_the_middleware_does_not_record_are_left_out() -> None:
    probe = "/fog/probe/gc_ms/explore"
    found = {status: [event["data"] for event in line_of(probe, status).events] for status in range(100, 600)}
    page: dict[str, object] = {"page": probe}
    assert {status for status, data in found.items() if data == [page, {"found": True}]} == set(range(200, 300))
    assert {status for status, data in found.items() if data == [{"found": False}]} == {404}
    assert all(not data for status, data in found.items() if status // 100 != 2 and status != 404)
    assert [line_of("/", status).left_out for status in (304, 404, 500)] == ["status 304", "status 404", "status 500"]


def test_options_say_what_neither_rules_nor_request_do(tmp_path: Path) -> None:
    rules = written(tmp_path, RULE.replace("(?P<product>[a-z]+)", "x"))
    refused = line_of("/x/gc_ms", options=Options(rules=rules)).refusal
    assert refused is not None
    assert str(refused) == "product: is said by neither the file nor the rules; say it with --product"
    [event] = line_of("/x/gc_ms", options=Options(rules=rules, product="fog", channel="beta")).events
    assert (event["product"], event["channel"]) == ("fog", "beta")
    [event] = line_of("/fenix/gc_ms", options=Options(rules=written(tmp_path, RULE), product="fog")).events
    assert event["product"] == "fenix"


def test_referrers_are_hosts_of_others() -> None:
    referrers = {
        "https://bugzilla.mozilla.org/show_bug.cgi?id=1": "bugzilla.mozilla.org",
        "https://user:secret@phabricator.services.mozilla.com?x": "phabricator.services.mozilla.com",
        "https://GLAM.telemetry.mozilla.org/fog": None,
        "https://glam.example:8080/": None,
        "not an address": None,
        f"https://{'x' * 300}/": None,
    }
    for referrer, expected in referrers.items():
        request = WebRequest(NOW, "/", 200, referrer=referrer, host="glam.example:8080")
        [event] = RequestReader(NO_OPTIONS).line(1, request).events
        assert event["data"].get("referrer") == expected


def test_no_pattern_stands_still(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, HOME.replace("'/'", "'/(a+)+(a|aa)+(.*)*b'")))
    # An engine that goes back takes longer than any test may.
    assert rules.match("GET", "/" + "a" * 100_000, "", 200) is None


def test_paths_that_no_rule_matches_are_counted_within_a_bound() -> None:
    whole = ImportStats()
    for number in range(5_000):
        part = ImportStats()
        part.leave_out("no rule matches", line_of(f"/once/{number}?secret={number}").unmatched)
        part.leave_out("no rule matches", line_of("/often").unmatched)
        part.leave_out("no rule matches", line_of("/often?secret=1", method="HEAD").unmatched)
        whole.merge(part)
    assert whole.left_out == {"no rule matches": 15_000}
    assert len(whole.unmatched) <= MOST_PATHS
    assert Counter(whole.unmatched).most_common(2) == [("/often", 5_000), ("HEAD /often", 5_000)]
    assert "secret" not in repr(whole)
    assert line_of("/" + "x" * 10_000).unmatched == "/" + "x" * 99
