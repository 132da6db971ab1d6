"""Structured logs: readable on a terminal, one JSON object a line otherwise (as MozLog on request)."""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from usage_service.shared.bounded_stream import BoundedStream
from usage_service.shared.tracing import span_ids

# Without local variables: they hold tokens and raw visitor ids.
_tracebacks = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
_READABLE = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
_JSON = structlog.processors.JSONRenderer()
# MozLog 2.0, as Dockerflow asks for (https://github.com/mozilla-services/Dockerflow/blob/main/docs/mozlog.md).
_MOZLOG_SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # those of syslog (RFC 5424)
_MOZLOG_LOGGER = "glam-usage"
_HOSTNAME = socket.gethostname()


def configure_logs(level: str = "info", form: str = "auto") -> None:
    """Send structlog and the standard library's logging to stderr.

    `form` is json, mozlog, or auto: readable on a terminal, json otherwise.
    """
    readable = form == "auto" and sys.stderr.isatty()
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_span_ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
        *(_READABLE if readable else [_tracebacks, *([_mozlog] if form == "mozlog" else []), _JSON]),
    ]
    structlog.configure(
        processors=[_never_raising(processors)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of each retry; who asked tells once all have failed
    if isinstance(sys.stderr, BoundedStream):
        sys.stderr.tell_dropped = _tell_dropped


def _tell_dropped(lines: int) -> None:
    # An error, so that no level leaves it out.
    structlog.get_logger(__name__).error("log_lines_dropped", lines=lines)


def _never_raising(processors: Sequence[Processor]) -> Processor:
    """Return a processor that runs these, and makes a line of what they raise, such as an object without a text."""

    def process(logger: WrappedLogger, method: str, entry: EventDict) -> str:
        event, made = entry["event"], cast("Any", entry)
        try:
            for processor in processors:
                made = processor(logger, method, made)
        except Exception as error:
            kind = type(error).__name__
            return json.dumps({"event": "log_line_failed", "level": "error", "of": f"{event!s:.200}", "error": kind})
        return cast("str", made)

    return process


def _add_span_ids(_logger: object, _method: str, entry: EventDict) -> EventDict:
    entry.update(span_ids())
    return entry


def _mozlog(_logger: object, _method: str, entry: EventDict) -> EventDict:
    """Put a log entry in MozLog's envelope: the event is its Type, everything else is in Fields."""
    fields = {name: value for name, value in entry.items() if name not in {"event", "level", "timestamp"}}
    return {
        "Timestamp": time.time_ns(),
        "Type": entry["event"],
        "Logger": _MOZLOG_LOGGER,
        "Hostname": _HOSTNAME,
        "EnvVersion": "2.0",
        "Severity": _MOZLOG_SEVERITIES.get(entry["level"], 6),
        "Pid": os.getpid(),
        "Fields": fields,
    }


class _StderrLogger:
    """A logger that writes to the stderr of the moment: loggers are cached, and may outlive their first stderr."""

    def __init__(self, *_names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        """Write the line. It is not flushed: a stalled reader is nothing to wait for."""
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = msg


class _ToStructlog(logging.Handler):
    """A handler that passes records of libraries on to structlog, so that there is one format."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # a library's arguments do not fit its format
            message = str(record.msg)
        structlog.get_logger(record.name).log(record.levelno, message, exc_info=record.exc_info or None)
