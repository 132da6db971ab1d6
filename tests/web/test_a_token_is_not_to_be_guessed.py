"""Off loopback the operator's token is long enough not to be guessed."""

from __future__ import annotations

import pytest

from tests.conftest import SECRET
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.web.access import check_exposure


def settings(host: str, token: str | None) -> ServerSettings:
    return ServerSettings(database_url="postgresql://", visitor_secret=SECRET, host=host, token=token)


@pytest.mark.parametrize("token", ["x", "fifteen letters"])
def test_a_short_one_is_refused_where_others_reach_it(token: str) -> None:
    with pytest.raises(SettingsError, match="USAGE_SERVICE_TOKEN must have 16 characters or more"):
        check_exposure(settings("0.0.0.0", token))
    check_exposure(settings("127.0.0.1", token))


def test_none_is_refused_there_too() -> None:
    with pytest.raises(SettingsError, match="USAGE_SERVICE_TOKEN must be set"):
        check_exposure(settings("0.0.0.0", None))
    check_exposure(settings("127.0.0.1", None))


def test_a_long_one_is_taken() -> None:
    check_exposure(settings("0.0.0.0", "sixteen letters!"))
