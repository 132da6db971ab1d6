"""Place of the mirror: an embedded warehouse, one for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mirrors import new_place
from usage_service.log.mirrored import MirrorPlace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MirrorPlace]:
    """Start a warehouse to mirror into."""
    with new_place(tmp_path_factory.mktemp("mirror")) as place:
        yield place
