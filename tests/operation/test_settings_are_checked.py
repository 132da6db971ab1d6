"""Settings are checked at the start: what is missing, unknown or out of range is named, and no secret is repeated."""

from __future__ import annotations

import pytest

from usage_service.shared.settings import (
    ClientSettings,
    ServerSettings,
    SettingsError,
    check_names,
    load_settings,
)

RIGHT = {
    "DATABASE_URL": "postgresql://usage:swordfish@127.0.0.1/usage",
    "USAGE_SERVICE_VISITOR_SECRET": "sixteen or more characters",
}


def test_what_is_needed_is_enough() -> None:
    settings = load_settings(ServerSettings, RIGHT)
    assert (settings.host, settings.port, settings.token, settings.open_reads) == ("127.0.0.1", 8080, None, False)
    assert settings.listen_url == RIGHT["DATABASE_URL"]


@pytest.mark.parametrize("missing", sorted(RIGHT))
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(missing: str, value: str | None) -> None:
    environ = {name: text for name, text in RIGHT.items() if name != missing}
    with pytest.raises(SettingsError, match=missing) as raised:
        load_settings(ServerSettings, environ if value is None else environ | {missing: value})
    assert "set" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://swordfish@host/usage"),
        ("DATABASE_URL", "swordfish"),
        ("LISTEN_DATABASE_URL", "http://swordfish@host"),
        ("LOG_LEVEL", "swordfish"),
        ("USAGE_SERVICE_PORT", "-1"),
        ("USAGE_SERVICE_PORT", "65536"),
        ("USAGE_SERVICE_PORT", "http"),
        ("USAGE_SERVICE_OPEN_READS", "perhaps"),
        ("USAGE_SERVICE_VISITOR_SECRET", "swordfish"),
        ("USAGE_SERVICE_POOL_SIZE", "0"),
        ("USAGE_SERVICE_POOL_SIZE", "1e9"),
        ("USAGE_SERVICE_QUEUE_EVENTS", "10"),
        ("USAGE_SERVICE_REQUESTS_A_SECOND", "0"),
        ("USAGE_SERVICE_REQUESTS_A_SECOND", "inf"),
        ("USAGE_SERVICE_CORS_ORIGINS", "swordfish"),
        ("USAGE_SERVICE_CORS_ORIGINS", "https://swordfish/, https://b"),
        ("USAGE_SERVICE_KEEPALIVE_SECONDS", "-1"),
        ("USAGE_SERVICE_DRAIN_SECONDS", "0"),
        ("USAGE_SERVICE_DRAIN_SECONDS", "nan"),
        ("USAGE_SERVICE_DRAIN_SECONDS", "inf"),
    ],
)
def test_what_is_out_of_range_is_named_but_not_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as raised:
        load_settings(ServerSettings, RIGHT | {name: value})
    assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_switches_are_read(text: str, meant: bool) -> None:
    assert load_settings(ServerSettings, RIGHT | {"USAGE_SERVICE_OPEN_READS": text}).open_reads is meant


def test_null_is_a_text_and_no_setting_is_off_by_it() -> None:
    needed = {"DATABASE_URL": "postgresql://x", "USAGE_SERVICE_VISITOR_SECRET": "x" * 16}
    assert load_settings(ServerSettings, needed | {"USAGE_SERVICE_TOKEN": "null"}).token == "null"
    with pytest.raises(SettingsError, match="LISTEN_DATABASE_URL"):
        load_settings(ServerSettings, needed | {"LISTEN_DATABASE_URL": "null"})


def test_a_misspelt_name_is_told_the_right_one() -> None:
    with pytest.raises(SettingsError, match=r"USAGE_SERVICE_TOKN is not a setting; did you mean USAGE_SERVICE_TOKEN\?"):
        check_names({"USAGE_SERVICE_TOKN": "swordfish"}, "USAGE_SERVICE_", ServerSettings, ClientSettings)
    with pytest.raises(SettingsError, match=r"there are .*USAGE_SERVICE_PORT"):
        check_names({"USAGE_SERVICE_" + "Z" * 50: "swordfish"}, "USAGE_SERVICE_", ServerSettings, ClientSettings)


def test_right_names_and_those_of_others_are_let_through() -> None:
    environ = RIGHT | {"USAGE_SERVICE_URL": "http://x", "PATH": "/bin", "USAGE": "1"}
    check_names(environ, "USAGE_SERVICE_", ServerSettings, ClientSettings)
