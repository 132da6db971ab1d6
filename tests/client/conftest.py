"""A service for clients to send to, and the middlewares that Django makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.django_project import remembered_middlewares
from tests.support.fake_service import FakeService, fake_service

if TYPE_CHECKING:
    from usage_service.django.middleware import UsageMiddleware


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a service that takes everything."""
    with fake_service() as service:
        yield service


@pytest.fixture
def made() -> Iterator[list[UsageMiddleware]]:
    """Remember the middlewares that Django makes."""
    with remembered_middlewares() as made:
        yield made
