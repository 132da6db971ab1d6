"""Tests of builds share two servers a module: `client` is one of them, `database` theirs, without any build."""

from __future__ import annotations

import pytest

from tests.support.building import House
from tests.support.servers import Client, Connection


@pytest.fixture
def client(house: House) -> Client:
    """One of the servers."""
    return house.client


@pytest.fixture
def database(house: House) -> Connection:
    """Their database, as its owner."""
    return house.database
