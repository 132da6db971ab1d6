"""Imports of files into a running service, which go on where they were interrupted."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from usage_service.imports.batches import Batch, batches
from usage_service.imports.events_to_send import EventToSend
from usage_service.imports.lines import NO_OPTIONS, Format, Options
from usage_service.imports.posting import Poster, open_session
from usage_service.imports.reading import EXPORT, prepared_lines, recognize
from usage_service.imports.source import Source, open_source
from usage_service.imports.state import ImportState, Reached, open_state
from usage_service.imports.stats import ImportStats
from usage_service.shared.progress import Report, progress
from usage_service.shared.threads import to_end

FIRST_EVENTS = 10  # which a trial shows
REQUESTS = 4  # under way at once
KeepRefused = Callable[[bytes], object]

log = structlog.get_logger(__name__)


async def import_file(
    path: Path,
    url: str,
    token: str | None,
    options: Options = NO_OPTIONS,
    format_name: str | None = None,
    keep_refused: KeepRefused | None = None,
) -> ImportStats:
    """Send one file and return what became of its lines; `keep_refused` is given each refused one."""
    with open_source(path) as source:
        if source.is_empty:
            return ImportStats()
        chosen = recognize(source, format_name)
        with open_state(_name_of(source, url, options, chosen)) as state:
            async with open_session(token) as session:
                stats = await _Import(source, chosen, options, state, Poster(session, url)).run()
            if keep_refused:
                deque(map(keep_refused, state.refused()), maxlen=0)
            return stats


def _name_of(source: Source, url: str, options: Options, chosen: Format) -> str | None:
    """Return a name for the import of a file, which is another one for a changed file or with other options."""
    if source.size is None:
        return None
    rules = options.rules.read_bytes() if options.rules else b""
    of = (source.size, source.modified, url, chosen.name, options.product, options.channel, options.host, options.as_of)
    return hashlib.blake2b(msgspec.json.encode(of) + rules + source.head, digest_size=16).hexdigest()


class Trial(NamedTuple):
    """What an import would send: the numbers of its lines and events, and the first of these."""

    stats: ImportStats
    first: list[bytes]


def try_file(
    path: Path, options: Options = NO_OPTIONS, format_name: str | None = None, keep_refused: KeepRefused | None = None
) -> Trial:
    """Read one file as `import_file` does, and send nothing."""
    stats, first = ImportStats(), list[bytes]()
    with open_source(path) as source, open_state(None) as state:
        if source.is_empty:
            return Trial(stats, first)
        chosen = recognize(source, format_name)
        stats.format = chosen.name
        with progress(source.name, source.size, in_bytes=True) as report:
            for batch in batches(source.name, prepared_lines(source, chosen, options, state)):
                state.keep(batch.seen, [], None)
                batch.stats.count([("would send", event.type) for event in batch.events])
                stats.merge(batch.stats)
                first += [event.body for event in batch.events[: FIRST_EVENTS - len(first)]]
                if keep_refused:
                    deque(map(keep_refused, batch.refused), maxlen=0)
                report(source.bytes_read())
    return Trial(stats, first)


class _Import:
    """One import: reads and prepares the next batch in a thread while those before are under way."""

    def __init__(self, source: Source, chosen: Format, options: Options, state: ImportState, poster: Poster) -> None:
        self._source = source
        self._state = state
        self._is_export = chosen is EXPORT
        # Positions of a restored log must rise: its batches go one after the other.
        self._send = poster.restore if self._is_export else poster.post
        self._requests = 1 if self._is_export else REQUESTS
        self._batches = batches(source.name, prepared_lines(source, chosen, options, state))
        self._under_way: deque[tuple[Batch, asyncio.Task[None]]] = deque()
        self._stats = ImportStats(format=chosen.name)

    async def run(self) -> ImportStats:
        await self._go_on()
        with progress(self._source.name, self._source.size, in_bytes=True) as report:
            try:
                while batch := await to_end(partial(next, self._batches, None), "import: reading"):
                    self._under_way.append((batch, asyncio.create_task(self._post(batch))))
                    await self._keep_sent(self._requests - 1, report)
                await self._keep_sent(0, report)
            finally:
                await self._stop()
        return self._stats

    async def _go_on(self) -> None:
        """Go on where an interrupted import was, if the log has what it sent."""
        reached = self._state.reached()
        if reached and (reached.sample is None or await self._is_known(reached.sample)):
            self._source.skip_to(reached.position)
            self._stats = msgspec.json.decode(reached.stats, type=ImportStats)
            self._stats.began_after = reached.position
            log.info("import_goes_on", file=self._source.name, after_line=reached.position)
        else:
            self._state.begin_anew()

    async def _is_known(self, sample: bytes) -> bool:
        [outcome] = await self._send([EventToSend(sample, "", is_timeless=True)])
        return outcome.status == "duplicate"

    async def _post(self, batch: Batch) -> None:
        if not batch.events:
            return
        outcomes = await self._send(batch.events)
        refused: set[int] = set()
        known: list[tuple[str, str]] = []
        for event, (number, text), outcome in zip(batch.events, batch.origins, outcomes, strict=True):
            if outcome.refusal is None:
                known.append((outcome.status, event.type))
                batch.sample = event.body
            elif number not in refused:  # of the events of a line, the first that is refused is told
                refused.add(number)
                batch.refuse(number, text, outcome.refusal)
        batch.stats.count(known)

    async def _keep_sent(self, most: int, report: Report) -> None:
        """Keep the batches at the front that were sent, and wait until at most so many others are under way."""
        while self._under_way and (len(self._under_way) > most or self._under_way[0][1].done()):
            batch, task = self._under_way[0]
            await task
            self._under_way.popleft()
            self._stats.merge(batch.stats)
            await to_end(partial(self._keep, batch), "import: keeping")
            report(self._source.bytes_read())

    def _keep(self, batch: Batch) -> None:
        reached = Reached(batch.position, msgspec.json.encode(self._stats), batch.sample) if batch.position else None
        self._state.keep(batch.seen, batch.refused, reached)

    async def _stop(self) -> None:
        tasks = [task for _, task in self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
