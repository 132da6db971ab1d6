"""An id that is made from content, and so from the visitor too, is stored as a keyed hash: no guess can be checked."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

from tests.support.servers import Client, Connection, event, post
from usage_service.imports.importing import import_file
from usage_service.imports.lines import NO_OPTIONS
from usage_service.imports.reading import read_events
from usage_service.imports.source import open_source
from usage_service.ingest.visitors import VisitorKeys

CONTENT = UUID("0f1e2d3c-4b5a-8978-8695-a4b3c2d1e0f0")


async def test_an_id_of_content_is_not_stored(client: Client, database: Connection) -> None:
    sent = event(event_id=str(CONTENT))
    [first], [again] = await post(client, sent), await post(client, sent)
    assert (first["status"], again["status"]) == ("recorded", "duplicate")
    assert first["event_id"] == again["event_id"] == str(CONTENT)
    stored = await database.fetchval("SELECT event_id FROM event_log")
    assert stored != CONTENT
    assert stored.version == 8
    answer = await client.post("/v1/events", json=event(event_id=str(CONTENT), data={"page": "/another"}))
    assert "is used by another event" in await answer.text()


async def test_what_is_imported_is_stored_under_no_id_that_the_file_gives(
    client: Client, database: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_text(
        json.dumps({key: value for key, value in event(visitor="203.0.113.9").items() if key != "event_id"})
    )
    with open_source(path) as source:
        [(_, events)] = read_events(source, NO_OPTIONS)
    for status in ("recorded", "duplicate"):
        assert (await import_file(path, str(client.make_url("/")), None)).statuses == {status: 1}
    assert isinstance(events, list)
    assert str(await database.fetchval("SELECT event_id FROM event_log")) != events[0]["event_id"]


def test_the_secret_says_which_hash_it_is() -> None:
    keys = VisitorKeys("a", 90), VisitorKeys("a", 30), VisitorKeys("b", 90)
    one, same, another = (key.stored_id(CONTENT) for key in keys)
    assert one == same != another
    assert one.variant == CONTENT.variant
    for other in (uuid4(), UUID("0f1e2d3c-4b5a-8978-c695-a4b3c2d1e0f0")):  # of a variant that has no versions
        assert {key.stored_id(other) for key in keys} == {other}
