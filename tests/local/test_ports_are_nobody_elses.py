"""Ports of local services are none that the kernel gives away while a service is down, or has not begun to listen."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.postgres_owner import FAST
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.ports import free_port
from usage_service.local.stack import LocalStack
from usage_service.shared.settings import UpSettings

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST_GIVEN_AWAY = int(RANGE.read_text().split()[0]) if RANGE.is_file() else 0

pytestmark = pytest.mark.skipif(FIRST_GIVEN_AWAY < 16_000, reason="this system does not keep enough ports back")


def test_a_free_port_is_not_given_away() -> None:
    assert max(free_port() for _ in range(50)) < FIRST_GIVEN_AWAY


def test_the_port_of_the_warehouse_is_not(tmp_path: Path) -> None:
    assert LocalStack(UpSettings(), 8080, tmp_path, sample=False).warehouse_port < FIRST_GIVEN_AWAY


def test_the_port_of_postgresql_is_not(own_cluster: Path) -> None:
    with EmbeddedPostgres(own_cluster, options=FAST) as postgres:
        assert (urlsplit(postgres.url).port or 0) < FIRST_GIVEN_AWAY
