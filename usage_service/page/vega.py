"""Vega, Vega-Lite and Vega-Embed as one script, from the installed package: nothing is fetched, nothing is kept here.

`python -m usage_service.page.vega` writes it to standard output, packed.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
from importlib.metadata import version

import vl_convert

MAKING_SECONDS = 120.0
LEVEL = 9
LEAST_PRIORITY = 19
SNIPPET = "window.vegaEmbed = vegaEmbed;"


class VegaError(Exception):
    """The script could not be made; the message says why."""


class Vega:
    """The script, made once, when it is first asked for.

    In a process of its own that lets all others go first: it takes seconds, and memory that is not given back.
    """

    def __init__(self) -> None:
        self._packed: bytes | None = None
        self._turn = asyncio.Lock()

    async def packed(self) -> bytes:
        """The script as gzip; raises VegaError."""
        async with self._turn:
            if self._packed is None:
                self._packed = await _made()
        return self._packed


def vega_version() -> str:
    """What the script changes with."""
    return version("vl-convert-python")


async def _made() -> bytes:
    command = (sys.executable, "-m", "usage_service.page.vega")
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


if __name__ == "__main__":
    os.nice(LEAST_PRIORITY)
    sys.stdout.buffer.write(gzip.compress(vl_convert.javascript_bundle(SNIPPET).encode(), LEVEL, mtime=0))
