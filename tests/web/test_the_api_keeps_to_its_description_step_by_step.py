"""Whatever the links of the API lead through, each step is answered as it is described."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conftest import new_database
from tests.support.api_cases import Served, led_somewhere, prove_steps, served
from tests.support.servers import rounds
from usage_service.web.api.routes import ROUTES
from usage_service.web.openapi.document import openapi_document

SCENARIOS, STEPS = max(6, rounds(0)), 8


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(server_url: str, worker_id: str) -> AsyncIterator[Served]:
    async with new_database(server_url, f"usage_{worker_id}_steps") as url, served(url) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_each_step_is_answered_as_it_is_described(service: Served) -> None:
    walked = await asyncio.to_thread(prove_steps, service, SCENARIOS, STEPS)
    assert led_somewhere(walked), "no link leads anywhere"


def test_links_lead_to_what_is_there() -> None:
    """Each operation with variables in its path is led to; a build of Firefox is not taken for one of ours."""
    document = openapi_document(ROUTES)
    answers = [
        (path, status, answer)
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
    ]
    led_to = {name for _, _, answer in answers for name in answer.get("links", {})}
    named = {route.handler.__name__ for route in ROUTES if "{" in route.path}
    assert named - led_to == {"get_feed"}  # its token is in its address, which the command tells that makes it
    assert not [path for path, status, answer in answers if int(status) >= 400 and "links" in answer]
    rows = document["paths"]["/v1/probes/{product}/{probe}"]["get"]["responses"]["200"]
    assert "get_build" not in rows["links"]
    posted = document["paths"]["/v1/events"]["post"]["responses"]["201"]["links"]["get_popularity"]
    assert posted["parameters"] == {"query.at_least": "$response.body#/events/0/position"}
