"""Exceptions to problems: every error is answered in the format of RFC 9457, without internals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from usage_service.ingest.group_commit import LogUnavailableError, QueueFullError
from usage_service.problems import FieldError, Problem, invalid
from usage_service.shared.postgres import UNAVAILABLE, is_away
from usage_service.shared.stream_limit import StreamLimitReachedError
from usage_service.shared.texts import NUL, NUL_REFUSED
from usage_service.web.answers import problem_answer
from usage_service.web.paths import logged_path

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn exceptions into problems."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_answer(problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem_answer(_http_problem(request, error))
    except (web.RequestPayloadError, HttpProcessingError) as error:
        why = " ".join(str(error).removeprefix("400, message:").split())
        return problem_answer(Problem(400, "Bad request body", f"the body cannot be read: {why}"))
    except QueueFullError:
        return _later(429, "Too many events wait", "the queue is full; send again later", seconds=1)
    except StreamLimitReachedError as error:
        return _later(429, "Too many streams", f"{error}; come back later, or to another server", seconds=5)
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError):
        return problem_answer(_nul_refused(request))
    except (LogUnavailableError, *UNAVAILABLE) as error:
        if not is_away(error):
            return _failed(request)
        log.warning("database_unavailable", path=logged_path(request), error=repr(error))
        detail = "the database did not answer; sending the same request again is safe"
        return _later(503, "Database unavailable", detail, seconds=2)
    except Exception:
        return _failed(request)


def _failed(request: web.Request) -> web.Response:
    """Log the exception that is being handled, and return a problem (500)."""
    log.exception("request_failed", method=request.method, path=logged_path(request))
    return problem_answer(Problem(500, "Internal error", "the service failed; it has been logged"))


def _nul_refused(request: web.Request) -> Problem:
    """Return the problem of a request with a NUL character, which no text of the database's own has."""
    given = (*request.match_info.items(), *request.query.items())
    named = dict.fromkeys(name for name, text in given if NUL in text)
    return invalid([FieldError(NUL_REFUSED, parameter=name) for name in named] or [FieldError(NUL_REFUSED, pointer="")])


def _later(status: int, title: str, detail: str, *, seconds: int) -> web.Response:
    return problem_answer(Problem(status, title, detail, headers={"Retry-After": str(seconds)}))


def _http_problem(request: web.Request, error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(
            405,
            "Method not allowed",
            f"{request.path} takes {allowed}, not {error.method}",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "Body too large", "a body is at most 1 MiB (unpacked); split it")
    if isinstance(error, web.HTTPNotFound):
        return Problem(404, "Not found", f"there is nothing at {request.path}")
    return Problem(error.status, error.reason, error.text or error.reason)
