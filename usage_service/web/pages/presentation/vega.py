"""Vega, Vega-Lite and Vega-Embed as one script, made from the installed package without the network.

Making the script takes seconds. So it is cached in the user's cache directory, for all servers of the user, until the
package changes. `python -m usage_service.web.pages.presentation.vega` makes, caches and prints it.
"""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import hashlib
import sys
import tempfile
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import platformdirs
import vl_convert

MAKING_SECONDS = 120.0
LEVEL = 9
SNIPPET = "window.vegaEmbed = vegaEmbed;"


class VegaError(Exception):
    """Script that could not be made; the message says why."""


class Vega:
    """Script of the charts, read from the cache or made at the first request for it."""

    def __init__(self) -> None:
        self._packed: bytes | None = None
        self._turn = asyncio.Lock()

    async def packed(self) -> bytes:
        """Return the script as gzip; raise VegaError."""
        async with self._turn:
            if self._packed is None:
                self._packed = await asyncio.to_thread(read_cached) or await _made()
        return self._packed


def vega_version() -> str:
    """Return a digest that changes when the script changes."""
    return hashlib.blake2b(f"{version('vl-convert-python')} {SNIPPET}".encode(), digest_size=8).hexdigest()


def _directory() -> Path:
    return platformdirs.user_cache_path("glam-usage")


def read_cached() -> bytes | None:
    """Return the cached script; None when there is none, or it is damaged."""
    try:
        packed = _place().read_bytes()
        return packed if gzip.decompress(packed) else None
    except (OSError, EOFError, zlib.error):
        return None


def _place() -> Path:
    return _directory() / f"vega-{vega_version()}.js.gz"


async def _made() -> bytes:
    """Make the script in a process of its own, because the memory for it is not given back."""
    command = (sys.executable, "-m", "usage_service.web.pages.presentation.vega")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(MAKING_SECONDS):
            out, complaint = await process.communicate()
    except TimeoutError:
        raise VegaError(f"the charts' script was not made within {MAKING_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise VegaError(f"the charts' script was not made: {complaint.decode(errors='replace')[-500:]}")
    return out


def _make() -> bytes:
    return gzip.compress(vl_convert.javascript_bundle(SNIPPET).encode(), LEVEL, mtime=0)


def make_and_cache() -> bytes:
    """Make and cache the script, one process at a time: the next finds it cached. Without a cache each makes it."""
    try:
        _directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        turn = (_directory() / "lock").open("wb")
    except OSError:
        return _make()
    with turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        packed = read_cached()
        if packed is None:
            packed = _make()
            with suppress(OSError):
                _cache(packed)
    return packed


def _cache(packed: bytes) -> None:
    """Write the cached script atomically, so that no reader sees a part of it."""
    for outdated in _directory().glob("vega-*"):
        outdated.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(prefix="vega-", dir=_directory(), delete=False) as file:
        file.write(packed)
    Path(file.name).rename(_place())


if __name__ == "__main__":
    sys.stdout.buffer.write(make_and_cache())
