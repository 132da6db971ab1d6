"""No field of any request is answered with a 500 for what no database or calendar holds: a refusal names the field."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import typer

from tests.support.bad_input import one_service, refused
from tests.support.request_fields import RequestField, request_fields
from tests.support.servers import Client
from usage_service.commands.times import read_time

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = [*request_fields()]
# Beyond the first or the last instant in UTC; and so near that a day before or after is.
OUTSIDE = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"]


@pytest_asyncio.fixture(loop_scope="module", scope="module", name="client")
async def one_client(module_database_url: str) -> AsyncIterator[Client]:
    async with one_service(module_database_url) as client:
        yield client


async def named(field: RequestField, client: Client, text: str) -> set[str]:
    """Return the names of the fields that are refused."""
    problem = await refused(await field.send(client, text), 422)
    return {error.get("parameter") or error["pointer"].split("/")[1] for error in problem["errors"]}


@pytest.mark.parametrize("field", [field for field in FIELDS if field.takes_time], ids=str)
async def test_a_time_outside_the_calendar(client: Client, field: RequestField) -> None:
    for text in OUTSIDE:
        escaped = text.replace("+", "%2B") if field.place != "body" else text
        assert await named(field, client, escaped) == {field.name}, text


@pytest.mark.parametrize("text", OUTSIDE)
async def test_a_time_of_a_command_outside_the_calendar(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be between 1900-01-01 and 3000-01-01"):
        read_time(text)
