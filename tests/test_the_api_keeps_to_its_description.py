"""What the OpenAPI document says of a route is what it does, whatever is sent to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api_cases import AUTHORIZED, Served, operations, prove, served
from tests.conftest import new_database
from usage_service.web.routes import ROUTES, Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = max(8, int(os.environ.get("SOAK_ROUNDS", "0")) // 10)  # of each route
WRONG = {"Authorization": "Bearer none-that-opens"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(server_url: str, worker_id: str) -> AsyncIterator[Served]:
    async with new_database(server_url, f"usage_{worker_id}_described") as url, served(url) as made:
        yield made


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_a_route_answers_as_it_is_described(service: Served, route: Route) -> None:
    operation = operations(service.schema)[named(route)]
    assert await asyncio.to_thread(prove, service, operation, EXAMPLES, AUTHORIZED) > 0
