"""Uploads of files: in one request, or resumable in many; each is a file without a name until its job has read it."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from aiohttp import BodyPartReader, MultipartReader

from warehouse.api.requests import LoadRequest, from_upload, parse_object
from warehouse.definitions import Resource, invalid
from warehouse.errors import BigQueryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

MAX_FILE = 2 * 1024**3
MAX_METADATA = 4 * 1024 * 1024
MAX_SESSIONS = 64
IDLE_SECONDS = 3600.0
CHUNK = 1024 * 1024
RANGE = re.compile(r"bytes (?:\*|([0-9]{1,15})-([0-9]{1,15}))/(?:\*|([0-9]{1,15}))")


@dataclass
class Upload:
    """A file on its way, with the load job that it is for; one that is `complete` has been given to its job."""

    request: LoadRequest
    project: str
    complete: bool = False
    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    size: int = 0
    touched: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, chunk: bytes) -> None:
        """Append bytes; raise `invalid` when the file is too large."""
        self.size += len(chunk)
        if self.size > MAX_FILE:
            raise invalid(f"The embedded warehouse loads files of at most {MAX_FILE} bytes")
        self.file.write(chunk)

    def drop(self) -> None:
        """Close the file, unless it is its job that closes it."""
        if not self.complete:
            self.file.close()


class Uploads:
    """The resumable uploads; complete ones are kept for clients that ask again, idle ones are forgotten."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Upload] = OrderedDict()

    def begin(self, project: str, metadata: Resource) -> str:
        """Return the id of a new upload."""
        self._expire()
        if len(self._sessions) >= MAX_SESSIONS and not self._forget_complete():
            raise BigQueryError("rateLimitExceeded", "Exceeded rate limits: too many uploads")
        key = uuid.uuid4().hex
        self._sessions[key] = Upload(from_upload(metadata), project)
        return key

    def get(self, key: str) -> Upload:
        """Return an upload; raise notFound when it is over."""
        self._expire()
        upload = self._sessions.get(key)
        if upload is None:
            raise BigQueryError("notFound", "Not found: the upload is over, or never was")
        upload.touched = time.monotonic()
        return upload

    def abandon(self, key: str) -> None:
        """Forget an upload that its client gave up."""
        self._sessions.pop(key).drop()

    def _forget_complete(self) -> bool:
        """Forget the oldest upload that is complete; return False when none is."""
        key = next((key for key, upload in self._sessions.items() if upload.complete), None)
        return key is not None and self._sessions.pop(key).complete

    def close(self) -> None:
        """Close the files."""
        for upload in self._sessions.values():
            upload.drop()

    def _expire(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        for key in [key for key, upload in self._sessions.items() if upload.touched < oldest]:
            self._sessions.pop(key).drop()


async def receive_multipart(request: web.Request, project: str) -> Upload:
    """Return the upload of a request that has the job first and the file second."""
    if not request.content_type.startswith("multipart/"):
        raise invalid("An upload of uploadType=multipart needs the content type multipart/related")
    try:
        reader = await request.multipart()
        metadata = await _part(reader)
        load = from_upload(await _metadata(metadata))
        upload = Upload(load, project)
        try:
            async for chunk in _chunks(await _part(reader)):
                upload.add(chunk)
        except BaseException:
            upload.file.close()
            raise
    except ValueError as error:
        raise invalid(f"The upload cannot be read: {error}") from None
    return upload


async def _part(reader: MultipartReader) -> BodyPartReader:
    part = await reader.next()
    if not isinstance(part, BodyPartReader):
        raise invalid("An upload has two parts: the job and the file")
    return part


async def _metadata(part: BodyPartReader) -> Resource:
    text = b""
    async for chunk in _chunks(part):
        text += chunk
        if len(text) > MAX_METADATA:
            raise invalid(f"The job of an upload has at most {MAX_METADATA} bytes")
    return parse_object(text)


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK):
        yield chunk


async def receive_chunk(request: web.Request, upload: Upload) -> bool:
    """Append the bytes of a request to a resumable upload; return whether it is complete.

    Bytes that are there already are skipped, so that a chunk may be sent again.
    """
    header = request.headers.get("Content-Range", "")
    if not header:
        return await _append(request, upload, 0)
    found = RANGE.fullmatch(header)
    if found is None:
        raise invalid(f"Invalid value for Content-Range: {header}", "Content-Range")
    first, _, total = found.groups()
    if first is not None:
        if int(first) > upload.size:
            raise invalid(f"Invalid value for Content-Range: {header}, after {upload.size} bytes", "Content-Range")
        await _append(request, upload, upload.size - int(first))
    return total is not None and upload.size >= int(total)


async def _append(request: web.Request, upload: Upload, skip: int) -> bool:
    async for chunk in request.content.iter_chunked(CHUNK):
        fresh = chunk[skip:]
        skip = max(0, skip - len(chunk))
        upload.add(fresh)
    return True
