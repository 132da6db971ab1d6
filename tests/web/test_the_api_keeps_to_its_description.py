"""Each route behaves as the OpenAPI document describes it, whatever is sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
import schemathesis
from schemathesis import CheckContext, Response
from schemathesis.core.failures import FailureGroup

from tests.conftest import new_database
from tests.support.api_cases import AUTHORIZED, AnyCase, Served, operations, prove, served
from tests.support.servers import JsonObject, rounds
from usage_service.web.api.routes import ROUTES, Route
from usage_service.web.openapi.document import openapi_document
from usage_service.web.openapi.operations import JSON

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = max(6, rounds(0) // 10)  # of each route
WRONG = {"Authorization": "Bearer none-that-opens"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(server_url: str, worker_id: str) -> AsyncIterator[Served]:
    async with new_database(server_url, f"usage_{worker_id}_described") as url, served(url) as made:
        yield made


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_a_route_answers_as_it_is_described(service: Served, route: Route) -> None:
    operation = service.operations[named(route)]
    assert await asyncio.to_thread(prove, service, operation, EXAMPLES, AUTHORIZED) > 0


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scope not in ("open", "feed")], ids=named)
async def test_who_has_no_right_token_is_told_so_whatever_is_sent(service: Served, route: Route) -> None:
    operation = service.operations[named(route)]
    assert await asyncio.to_thread(prove, service, operation, 2, WRONG, is_refused) > 0


LIES: dict[str, Callable[[JsonObject], object]] = {
    "a status": lambda operation: operation["responses"].pop("200"),
    "a media type": lambda operation: operation["responses"]["200"].update(content={"text/csv": {}}),
    "a header": lambda operation: operation["responses"]["200"]["headers"].update(ETag={"schema": {"type": "integer"}}),
    "a type": lambda operation: operation["responses"]["200"]["content"][JSON].update(
        schema={"required": ["nonsense"]}
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_description_that_is_wrong_is_found_out(service: Served, lie: str) -> None:
    document = openapi_document(ROUTES)
    LIES[lie](document["paths"]["/v1/timeseries"]["get"])
    operation = operations(schemathesis.openapi.from_dict(document))["GET /v1/timeseries"]
    with pytest.raises(FailureGroup):
        await asyncio.to_thread(prove, service, operation, EXAMPLES, AUTHORIZED)


def is_refused(_context: CheckContext, response: Response, _case: AnyCase) -> None:
    """Check that it is 401, or 400 where a header cannot be read: what sends here writes it in Latin-1."""
    assert response.status_code == 401 or (response.status_code == 400 and "is not UTF-8" in response.text)
