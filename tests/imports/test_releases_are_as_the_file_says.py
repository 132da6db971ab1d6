"""Releases get the product and channel that their file says by content and name; what it does not say is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from usage_service.imports.formats import format_of
from usage_service.imports.lines import Line, Options
from usage_service.imports.refusals import UnreadableFileError
from usage_service.imports.source import open_source

CORPUS = Path(__file__).parents[1] / "data" / "imports" / "product-details"
ASKED = Options()
Release = tuple[str, str, int, str]


def read(path: Path, options: Options = ASKED) -> list[Line]:
    with open_source(path) as source:
        chosen = format_of(source.head, source.name)
        assert chosen.name == "product-details"
        return list(chosen.lines(source, options))


def releases(lines: list[Line]) -> list[Release]:
    events = [event for line in lines for event in line.events]
    assert {event["type"] for event in events} <= {"release_published"}
    return [
        (event["product"], event["channel"], event["data"]["version"], event["occurred_at"][:10]) for event in events
    ]


def refused(lines: list[Line]) -> list[str]:
    return [str(line.refusal) for line in lines if line.refusal]


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, indent=4))
    return path


EXPECTED: dict[str, tuple[list[Release], int]] = {
    "firefox_history_major_releases.json": (
        [
            ("fog", "release", 1, "2004-11-09"),
            ("fog", "release", 99, "2022-04-05"),
            ("fog", "release", 100, "2022-05-03"),
            ("fog", "release", 33, "2014-11-10"),
        ],
        4,
    ),
    "firefox_history_development_releases.json": (
        [
            ("fog", "beta", 1, "2004-10-27"),
            ("fog", "beta", 4, "2011-02-25"),
            ("fog", "beta", 38, "2015-05-12"),
            ("fog", "beta", 99, "2022-03-08"),
            ("fog", "beta", 100, "2022-04-05"),
            ("fog", "beta", 101, "2022-05-03"),
        ],
        3,
    ),
    "firefox_history_stability_releases.json": (
        [
            ("fog", "release", 1, "2005-02-24"),
            ("fog", "release", 3, "2012-03-13"),
            ("fog", "release", 33, "2014-11-14"),
            ("fog", "release", 50, "2016-12-13"),
            ("fog", "esr", 141, "2025-09-16"),
            ("fog", "esr", 31, "2014-10-14"),
            ("fog", "release", 99, "2022-04-12"),
            ("fog", "esr", 91, "2022-04-05"),
            ("fog", "release", 100, "2022-05-16"),
        ],
        3,
    ),
    "mobile_history_major_releases.json": (
        [("fenix", "release", 79, "2020-07-28"), ("fenix", "release", 100, "2022-05-03")],
        3,
    ),
    "mobile_history_development_releases.json": ([("fenix", "beta", 100, "2022-04-05")], 3),
    "firefox.json": (
        [
            ("fog", "release", 50, "2016-12-13"),
            ("fog", "esr", 10, "2013-01-08"),
            ("fog", "release", 99, "2022-04-05"),
            ("fog", "beta", 100, "2022-04-05"),
            ("fog", "release", 100, "2022-05-03"),
            ("fog", "esr", 91, "2021-08-10"),
        ],
        5,
    ),
    "devedition.json": ([("fog", "aurora", 100, "2022-04-05"), ("fog", "aurora", 101, "2022-05-03")], 3),
    "mobile_android.json": (
        [
            ("fenix", "beta", 100, "2022-04-05"),
            ("fenix", "release", 100, "2022-05-11"),
            ("fenix", "release", 114, "2023-06-06"),
            ("fenix", "aurora", 115, "2023-06-06"),
        ],
        3,
    ),
    "all.json": (
        [
            ("fog", "release", 100, "2022-05-03"),
            ("fog", "aurora", 100, "2022-04-05"),
            ("fenix", "release", 100, "2022-05-03"),
        ],
        2,
    ),
    "firefox_versions.json": (
        [
            ("fog", "nightly", 153, "2026-05-18"),
            ("fog", "beta", 152, "2026-05-18"),
            ("fog", "release", 151, "2026-05-19"),
        ],
        0,
    ),
}
UNREADABLE = {
    "mobile_versions.json": "versions without their days",
    "thunderbird_versions.json": "versions without their days",
    "thunderbird_history_major_releases.json": "is of thunderbird, which GLAM does not show; --product thunderbird",
    "languages.json": "names locales",
    "regions-de.json": "names regions",
    "firefox_primary_builds.json": "names builds",
    "Firefox-100.0-build4.json": "names locales",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_file_by_its_name_and_shape(name: str) -> None:
    expected, wrong = EXPECTED[name]
    lines = read(CORPUS / name)
    assert releases(lines) == expected
    assert len(refused(lines)) == wrong
    assert len(lines) == len({line.number for line in lines})
    assert all(line.events or line.refusal or line.left_out for line in lines)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_has_no_releases_says_why(name: str) -> None:
    with pytest.raises(UnreadableFileError, match=UNREADABLE[name]):
        read(CORPUS / name)


def test_every_file_of_the_corpus_is_expected() -> None:
    assert {path.name for path in CORPUS.glob("*.json")} == EXPECTED.keys() | UNREADABLE.keys()


def test_betas_are_not_releases_and_a_release_is_not_a_month_early(tmp_path: Path) -> None:
    betas = {f"{major}.0b{number}": "2022-04-05" for major in range(1, 128) for number in (1, 2)}
    lines = read(written(tmp_path / "firefox_history_development_releases.json", betas))
    assert {release[:2] for release in releases(lines)} == {("fog", "beta")}
    assert len(releases(lines)) == 127


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("firefox_history_development_releases.json", Options(channel="release"), "channel beta and not release"),
        ("firefox_history_development_releases.json", Options("fenix", "beta"), "is fog and not fenix"),
        ("mobile_history_development_releases.json", Options("fog"), "is fenix and not fog"),
    ],
)
def test_a_contradiction_is_told_and_not_obeyed(tmp_path: Path, name: str, options: Options, why: str) -> None:
    path = written(tmp_path / name, {"100.0b1": "2022-04-05", "101.0b1": "2022-05-03"})
    with pytest.raises(UnreadableFileError, match=why):
        read(path, options)
    mixed = written(tmp_path / "history.json", {"100.0b1": "2022-04-05", "100.0": "2022-05-03"})
    lines = read(mixed, Options("fog", "release"))
    assert releases(lines) == [("fog", "release", 100, "2022-05-03")]
    assert refused(lines) == ["100.0b1: is of the channel beta and not release, as --channel says"]


def test_what_nothing_says_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "history.json", {"100.0": "2022-05-03"})
    with pytest.raises(UnreadableFileError, match="say it, such as --product fog"):
        read(path)
    assert releases(read(path, Options("fog"))) == [("fog", "release", 100, "2022-05-03")]


def test_a_list_of_all_is_taken_in_part() -> None:
    lines = read(CORPUS / "all.json", Options("fenix"))
    assert releases(lines) == [("fenix", "release", 100, "2022-05-03")]
    assert {line.left_out for line in lines} >= {"is of firefox, which is fog and not fenix"}
    nightly = read(CORPUS / "firefox_versions.json", Options(channel="nightly"))
    assert releases(nightly) == [("fog", "nightly", 153, "2026-05-18")]
    thunderbird = read(CORPUS / "thunderbird_history_major_releases.json", Options("thunderbird"))
    assert [release[:3] for release in releases(thunderbird)] == [
        ("thunderbird", "release", 91),
        ("thunderbird", "release", 102),
    ]


def test_desktop_may_be_recorded_as_what_came_before(tmp_path: Path) -> None:
    path = written(tmp_path / "firefox_history_major_releases.json", {"100.0": "2022-05-03"})
    assert releases(read(path, Options("firefox"))) == [("firefox", "release", 100, "2022-05-03")]


def test_just_after_a_merge_nobody_says_since_when_there_is_a_beta(tmp_path: Path) -> None:
    versions = json.loads((CORPUS / "firefox_versions.json").read_text("utf-8"))
    merged = versions | {"FIREFOX_NIGHTLY": "154.0a1", "LAST_MERGE_DATE": "2026-06-15"}
    lines = read(written(tmp_path / "firefox_versions.json", merged))
    assert releases(lines) == [("fog", "nightly", 154, "2026-06-15"), ("fog", "release", 151, "2026-05-19")]
