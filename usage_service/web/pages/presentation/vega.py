"""Vega, Vega-Lite and Vega-Embed as one script, from the installed package: nothing is fetched.

To make it takes seconds, so it is kept in the user's cache directory until the package changes, for all servers there.
`python -m usage_service.web.pages.presentation.vega` has it made, kept and written to standard output.
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
    """The script could not be made; the message says why."""


class Vega:
    """The script, looked up or made once, when it is first asked for."""

    def __init__(self) -> None:
        self._packed: bytes | None = None
        self._turn = asyncio.Lock()

    async def packed(self) -> bytes:
        """The script as gzip; raises VegaError."""
        async with self._turn:
            if self._packed is None:
                self._packed = await asyncio.to_thread(kept) or await _made()
        return self._packed


def vega_version() -> str:
    """What the script changes with."""
    return hashlib.blake2b(f"{version('vl-convert-python')} {SNIPPET}".encode(), digest_size=8).hexdigest()


def _directory() -> Path:
    return platformdirs.user_cache_path("glam-usage")


def kept() -> bytes | None:
    """The script as it was kept; None without one, or where it is not whole."""
    try:
        packed = _place().read_bytes()
        return packed if gzip.decompress(packed) else None
    except (OSError, EOFError, zlib.error):
        return None


def _place() -> Path:
    return _directory() / f"vega-{vega_version()}.js.gz"


async def _made() -> bytes:
    """Made by a process of its own, because of the memory that is not given back."""
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


def make_and_keep() -> bytes:
    """By one process at a time: who comes second finds it made. Where nothing can be kept, each makes its own."""
    try:
        _directory().mkdir(mode=0o700, parents=True, exist_ok=True)
        turn = (_directory() / "lock").open("wb")
    except OSError:
        return _make()
    with turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        packed = kept()
        if packed is None:
            packed = _make()
            with suppress(OSError):
                _keep(packed)
    return packed


def _keep(packed: bytes) -> None:
    """Whole or not at all, so that who reads it meanwhile never sees a part."""
    for outdated in _directory().glob("vega-*"):
        outdated.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(prefix="vega-", dir=_directory(), delete=False) as file:
        file.write(packed)
    Path(file.name).rename(_place())


if __name__ == "__main__":
    sys.stdout.buffer.write(make_and_keep())
