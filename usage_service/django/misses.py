"""Data requests that the app has no rows for, answered by the usage service, which may build the rows; and such builds.

`answer_misses` goes around the app's view of data. Where it is 404, the service is asked the same. The views of builds
let the app's pages follow a build without a token of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Concatenate, ParamSpec
from uuid import UUID

import urllib3
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.django.recording import RECORDED, Recorder, recorder_of

DATA_PATH = "/api/v1/data/"  # of the service
MOST_REQUEST_BYTES = 16 * 1024
MOST_ANSWER_BYTES = 64 * 1024 * 1024
WAITS = urllib3.Timeout(connect=1, read=10)
PASSED_ON = ("Content-Type", "Content-Encoding", "Link", "Retry-After")
VISITOR_HEADER = "Usage-Visitor"

Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponseBase]

_log = RateLimitedLog()
_pool = urllib3.PoolManager(maxsize=8, timeout=WAITS, retries=False)


class UnusableAnswerError(Exception):
    """The service does not answer as it should; the message says how it does."""


def answer_misses(view: View[Parameters]) -> View[Parameters]:
    """Let the usage service answer the data requests of people that the app's own view answers with 404.

    It then records the view of the probe, and the middleware does not. Where it cannot answer, the app's 404 stands.
    """

    @wraps(view)  # its attributes, too: one says that it needs no CSRF token
    def answering(request: HttpRequest, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> HttpResponseBase:
        body = request.body if _length(request) <= MOST_REQUEST_BYTES else None
        response = view(request, *args, **kwargs)
        if response.status_code != HTTPStatus.NOT_FOUND or body is None:
            return response
        try:
            recorder = recorder_of(request)
            if recorder.is_bot(request):
                return response
            answer = _ask_for_data(recorder, request, body)
        except Exception as error:
            _log.warn("miss_not_answered", error=type(error).__name__)
            return response
        request.META[RECORDED] = True
        return answer

    return answering


@require_safe
@never_cache
def get_build(request: HttpRequest, build_id: UUID) -> HttpResponse:
    """Get a build of the service as JSON: 200 whatever its state is, 404 if there is none, 502 without a service."""
    recorder = recorder_of(request)
    try:
        answer = _ask(recorder, "GET", f"/v1/builds/{build_id}", {})
        if answer.status_code == HTTPStatus.SEE_OTHER:  # to the rows, which the app itself asks for
            answer.status_code = HTTPStatus.OK
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise UnusableAnswerError(answer.status_code)
    except Exception as error:
        _log.warn("build_not_answered", error=type(error).__name__)
        return HttpResponse("the usage service does not answer", status=HTTPStatus.BAD_GATEWAY)
    return answer


def _length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdecimal() else MOST_REQUEST_BYTES + 1


def _ask_for_data(recorder: Recorder, request: HttpRequest, body: bytes) -> HttpResponse:
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": request.headers.get("Accept-Encoding", "identity"),
    }
    if (visitor := recorder.visitor_of(request)) is not None:
        # As UTF-8, which http.client is told to be Latin-1: what the service reads is then what it reads in an event.
        headers[VISITOR_HEADER] = str(visitor).encode().decode("latin-1")
    answer = _ask(recorder, "POST", DATA_PATH, headers, body)
    if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        raise UnusableAnswerError(answer.status_code)
    return answer


def _ask(
    recorder: Recorder, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> HttpResponse:
    """Ask the service, and return its answer with what a browser is to know of it. Raise when there is none."""
    credentials = {"Authorization": f"Bearer {recorder.token}"} if recorder.token else {}
    got = _pool.request(
        method, recorder.url + path, body=body, headers=headers | credentials, redirect=False, preload_content=False
    )
    content = got.read(MOST_ANSWER_BYTES + 1, decode_content=False)
    if len(content) > MOST_ANSWER_BYTES:
        got.close()
        raise UnusableAnswerError("too long")
    got.release_conn()
    passed_on = {name: got.headers[name] for name in PASSED_ON if name in got.headers}
    return HttpResponse(content, status=got.status, headers=passed_on)
