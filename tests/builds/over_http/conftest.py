"""Fixtures of tests that share two servers a module: one of them, and their database without any build."""

from __future__ import annotations

import pytest

from tests.support.building import TwoServers
from tests.support.servers import Client, Connection


@pytest.fixture
def client(two_servers: TwoServers) -> Client:
    """Return a client of one of the servers."""
    return two_servers.client


@pytest.fixture
def database(two_servers: TwoServers) -> Connection:
    """Return a connection to their database as its owner."""
    return two_servers.database
