"""A running service and made-up requests to it, by schemathesis, of what its own OpenAPI document says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import parse_qs, quote, urlsplit

import requests
import schemathesis
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation.stateful.state_machine import APIStateMachine, StepInput, StepOutput
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import SECRET
from tests.support.servers import NOON, Client, ProductionServer, event, post, registered
from usage_service.shared.settings import ServerSettings
from usage_service.web.server import create_app

AnyCase: TypeAlias = "Case[Any]"
Check: TypeAlias = Callable[[CheckContext, Response, AnyCase], bool | None]
Described: TypeAlias = "APIOperation[Any, Any, Any, Any]"

TOKEN = "a-token-that-opens-everything-there-is"  # too long to be guessed: wrong ones do not lock it out
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def nothing_wrong_is_accepted(context: CheckContext, response: Response, case: AnyCase) -> bool | None:
    """Fail where what breaks the document was accepted, unless the wire does not show it.

    A token that was left out is sent all the same, and a parameter without a name or a value is not.
    """
    wrong = {str(place) for place, one in case.meta.components.items() if one.mode.is_negative} if case.meta else set()
    sent = parse_qs(urlsplit(str(response.request.url)).query, keep_blank_values=True)
    if "header" in wrong or "" in sent or not case.query.keys() <= sent.keys():
        return None
    known = {parameter.name for parameter in case.operation.query}
    if case.path.startswith("/api/v1/") and not case.query.keys() <= known:
        return None  # GLAM's own contract passes over parameters that it does not know
    return negative_data_rejection(context, response, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    nothing_wrong_is_accepted,
]
CALL_SECONDS = 20
SCENARIOS_A_SEED = 6
MOST_SEEDS = 10
EVENTS_OF_BUILD = "GET /v1/builds/{build_id}/events"
NAMED = {"product": "fog", "probe": "gc_ms", "channel": "nightly", "run": "a-night"}


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context: schemathesis.SerializationContext, value: object) -> bytes:
    """Return one value a line."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


class Served(NamedTuple):
    """Name where a service is, what it says of itself, in all and by route, a build that is over, and a night."""

    url: str
    schema: schemathesis.BaseSchema
    operations: dict[str, Described]
    build_id: str
    night_id: str


@asynccontextmanager
async def served(database_url: str) -> AsyncIterator[Served]:
    """Serve one that wants a token and has something to answer with; a background task that dies fails the test."""
    deaths: list[bool] = []
    made = ServerSettings(database_url=database_url, visitor_secret=SECRET, token=TOKEN)
    app = create_app(made, lambda: deaths.append(True))
    async with TestClient(ProductionServer(app), headers=AUTHORIZED) as client:
        build_id, night_id = await _filled(client)
        document = await (await client.get("/openapi.json")).json()
        schema = schemathesis.openapi.from_dict(document)
        yield Served(str(client.make_url("")).rstrip("/"), schema, operations(schema), build_id, night_id)
    assert not deaths


async def _filled(client: Client) -> tuple[str, str]:
    """Put something into the log; return the ids of a build that was cancelled and of a night."""
    items = await post(client, registered("gc_ms"), event("probe_viewed"), event("page_viewed"))
    await client.get("/v1/hotlist", params={"at_least": items[-1]["position"], "wait": 20})
    asked = {name: NAMED[name] for name in ("product", "channel", "probe")}
    build = await (await client.post("/v1/builds", json=asked)).json()
    await client.delete(f"/v1/builds/{build['build_id']}")
    await client.post("/v1/hotlist", json={"run": NAMED["run"]})
    named = {"product": NAMED["product"], "channel": NAMED["channel"], "probes": [NAMED["probe"]]}
    night = await (await client.post("/v1/builds/prefetch", json=named)).json()
    return str(build["build_id"]), str(night["night_id"])


def operations(schema: schemathesis.BaseSchema) -> dict[str, Described]:
    """Return every route that the document has, by method and path."""
    return {result.ok().label: result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)}


def prove(service: Served, operation: Described, examples: int, headers: dict[str, str], *also: Check) -> int:
    """Send so many requests, half of them right by the document, half wrong, and check the answers. Blocks.

    Returns how many were sent.
    """
    sent = 0
    with requests.Session() as session:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=max(1, examples // 2),
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
            def send(case: AnyCase, known: bool) -> None:
                nonlocal sent
                sent += 1
                _bound(case)
                if known and not _is_wrong(case):
                    _name_what_there_is(case, service)
                answered = case.call(service.url, session, headers, timeout=CALL_SECONDS, allow_redirects=False)
                case.validate_response(answered, checks=[*CHECKS, *also], headers=headers)

            # A route without parameters takes nothing that could be wrong.
            with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
                send()
    return sent


Steps: TypeAlias = "Counter[tuple[str, int, bool]]"
"""How often which operation was answered with which status, and whether a link led there."""


class Walk(APIStateMachine):
    """A walk along the links of the API, each step of which is made up of what was answered before."""

    url: str
    session: requests.Session
    steps: Steps
    failures: list[FailureGroup]

    def step(self, given: StepInput) -> StepOutput:
        made = super().step(given)
        self.steps[given.case.operation.label, made.response.status_code, given.transition is not None] += 1
        return made

    def before_call(self, case: AnyCase) -> None:
        _bound(case)
        if self.steps.total() % 2 and not _is_wrong(case):
            _say_what_there_is(case.body)
        if case.operation.label == EVENTS_OF_BUILD:  # those of a build that is not over do not end
            path = f"{self.url}/v1/builds/{quote(str(case.path_parameters['build_id']), safe='')}"
            self.session.delete(path, headers=AUTHORIZED, timeout=CALL_SECONDS)

    def call(self, case: AnyCase, **_options: object) -> Response:
        return case.call(self.url, self.session, AUTHORIZED, timeout=CALL_SECONDS, allow_redirects=False)

    def validate_response(self, response: Response, case: AnyCase, *_checks: object, **_options: object) -> None:
        try:
            case.validate_response(response, checks=CHECKS, headers=AUTHORIZED)
        except FailureGroup as failure:  # not raised here, where it would be looked for again in another state
            self.failures.append(failure)


def prove_steps(service: Served, scenarios: int, steps: int) -> Steps:
    """Walk along the links of the API in so many scenarios of so many steps, and check each answer. Blocks.

    A seed may end before its scenarios have, so it goes on until a link has led somewhere, for MOST_SEEDS at most.
    """
    few = settings(
        max_examples=SCENARIOS_A_SEED,
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    walked: Steps = Counter()
    failures: list[FailureGroup] = []
    with requests.Session() as session:
        known = {"url": service.url, "session": session, "steps": walked, "failures": failures}
        machine = cast(type[Walk], type("AnyWalk", (Walk, service.schema.as_state_machine()), known))
        for number in range(max(MOST_SEEDS, -(-scenarios // SCENARIOS_A_SEED))):
            # The service remembers the scenarios before: what Hypothesis takes for the same may turn out otherwise.
            with suppress(FlakyStrategyDefinition):
                seed(number)(machine).run(settings=few)
            if failures:
                raise failures[0]
            if (number + 1) * SCENARIOS_A_SEED >= scenarios and led_somewhere(walked):
                break
    return walked


def led_somewhere(walked: Steps) -> bool:
    """Return whether a link was followed to what is there."""
    return any(by_link and status < 300 for _, status, by_link in walked)


def _is_wrong(case: AnyCase) -> bool:
    """Return whether the case breaks what the document says: what breaks it is to stay as it is."""
    return case.meta is not None and case.meta.generation.mode is GenerationMode.NEGATIVE


def _bound(case: AnyCase) -> None:
    """Let nobody wait for what never comes: a wait that is right is one of 0 s, and a position one that is reached."""
    for name in ("wait", "at_least"):
        if str(case.query.get(name, "")).isdigit():
            case.query[name] = 0
    if "wait" in str(case.headers.get("Prefer", "")):
        case.headers["Prefer"] = "wait=0"


def _name_what_there_is(case: AnyCase, service: Served) -> None:
    known = NAMED | {"build_id": service.build_id, "night_id": service.night_id}
    for name in case.path_parameters:
        case.path_parameters[name] = known.get(name, "x")


def _say_what_there_is(body: object) -> None:
    """Put what there is in place of texts made up, in an event or a request for a build, so that there is an answer."""
    if isinstance(body, list):
        for item in body:
            _say_what_there_is(item)
    elif isinstance(body, dict):
        for name, known in (NAMED | {"occurred_at": NOON, "sent_at": NOON}).items():
            if isinstance(body.get(name), str):
                body[name] = known
        _say_what_there_is(body.get("events"))
