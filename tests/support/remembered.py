"""Answers that depend on nothing but what is asked, kept in the user's cache from run to run."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

KEPT_SECONDS = 30 * 86_400.0  # since an answer was last asked for


class RefusedError(Exception):
    """Raised where what was asked is wrong; the message says why, and is remembered like any other answer."""


def remembered(asked: object, answer: Callable[[], list[Any]]) -> list[Any]:
    """Return the answer, or raise the RefusedError, of now or of before; both are made of JSON."""
    path = directory() / f"{digest(asked)}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        os.utime(path)
    except (FileNotFoundError, ValueError):
        found = answered(answer)
        partial = path.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(found), "utf-8")
        partial.replace(path)
    if "refused" in found:
        raise RefusedError(found["refused"])
    return list(found["answer"])


def answered(answer: Callable[[], list[Any]]) -> dict[str, Any]:
    """Return what is kept of an answer or of a refusal."""
    try:
        return {"answer": answer()}
    except RefusedError as error:
        return {"refused": str(error)}


def digest(asked: object) -> str:
    """Return a name for what is asked of these programs: other programs may answer otherwise."""
    return hashlib.sha256(json.dumps([programs(), asked], default=str).encode()).hexdigest()


@cache
def programs() -> list[str]:
    """Return the versions of the engine and of what asks it."""
    files = (Path(__file__).with_name(name) for name in ("googlesql.py", "reference_engine.py", "remembered.py"))
    return [version("zetasql"), *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)]


@cache
def directory() -> Path:
    """Return where the answers are, without those that nobody asked for lately."""
    kept = platformdirs.user_cache_path("glam-usage", ensure_exists=True) / "googlesql"
    kept.mkdir(exist_ok=True)
    for path in kept.iterdir():
        with suppress(FileNotFoundError):  # another worker removes it, too
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()
    return kept
