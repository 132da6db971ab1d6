"""Recorder: what the middleware and the views of a process record events with, as the app's settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.module_loading import import_string

from usage_service.client import UsageClient
from usage_service.client.rate_limited_log import RateLimitedLog
from usage_service.client.settings import token_or_variable
from usage_service.django.visitors import is_bot, user_or_session
from usage_service.events import Product as ProductName
from usage_service.problems import field_error

MOST_VISITOR_CHARACTERS = 256
# Of request.META.
KEY = "usage_service.recorder"
RECORDED = "usage_service.recorded"  # true: the service recorded the request by itself
# What each setting means, as docs/guides/app.md has it.
OPTIONS = {
    "URL": "where the usage service is; needed",
    "TOKEN": "a token of the scope `events`, and of `read` where misses are answered; by default USAGE_SERVICE_TOKEN's",
    "SPOOL_DIR": "where events wait on disk; without it they wait in memory and are gone with the process",
    "PRODUCT": "the product that a page is of: a name, or a function of the request or its dotted path",
    "DATA_PATH": "the path of data requests, by default `/api/v1/data/`",
    "IGNORED_PATHS": 'prefixes of pages that are not recorded, such as `["/admin/"]`',
    "VISITOR": "a function of the request, or its dotted path, that says who it is",
    "IS_BOT": "a function of the request, or its dotted path; by default the user agent tells, by a kept list",
    "STRICT": "raises `WrongEventError` for an event that would be refused; by default as Django's debug mode is",
    "CLIENT_OPTIONS": "further arguments of `UsageClient`",
}

Visitor = Callable[[HttpRequest], str | int | UUID | None]
Product = Callable[[HttpRequest], str | None]
Given = TypeVar("Given", bound=Callable[[HttpRequest], object])


class Recorder:
    """Records events of requests: each with its visitor, and marked if a program made it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.client = _client(options)
        self.url: str = options["URL"].rstrip("/")
        self.token = token_or_variable(options.get("TOKEN"))
        self._log = RateLimitedLog()
        self._product: Product = _product(options.get("PRODUCT"))
        self._visitor: Visitor = _named(options.get("VISITOR", user_or_session))
        self.is_bot: Callable[[HttpRequest], bool] = _named(options.get("IS_BOT", is_bot))

    def record(
        self,
        request: HttpRequest,
        kind: str,
        data: dict[str, object],
        *,
        product: str | int | None = None,
        channel: str | int | None = None,
        probe: str | int | None = None,
    ) -> None:
        """Record an event of a request. Raise what the app's own functions raise, and WrongEventError if strict."""
        marked = data | ({"bot": True} if self.is_bot(request) else {})
        visitor = self.visitor_of(request)
        self.client.record(kind, visitor=visitor, product=product, channel=channel, probe=probe, data=marked)

    def product_of(self, request: HttpRequest) -> str | None:
        """Return the product that a page is of, as the app's settings say; None for what no product is called."""
        product = self._product(request)
        if isinstance(product, str) and (why := why_not(product, ProductName)):  # such as a part of the path
            self._log.warn("product_left_out", why=why)
            return None
        return product

    def visitor_of(self, request: HttpRequest) -> str | int | UUID | None:
        """Return who makes a request, as the app's settings say."""
        visitor = self._visitor(request)
        return visitor[:MOST_VISITOR_CHARACTERS] or None if isinstance(visitor, str) else visitor


def why_not(value: object, kind: object) -> str | None:
    """Return why a field of this type takes no such value, None where it does."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return field_error(error).detail
    return None


def recorder_of(request: HttpRequest) -> Recorder:
    """Return the recorder of the middleware that the request went through; raise ImproperlyConfigured without it."""
    found = request.META.get(KEY)
    if not isinstance(found, Recorder):
        raise ImproperlyConfigured('MIDDLEWARE must have "usage_service.django.UsageMiddleware"')
    return found


def read_options() -> dict[str, Any]:
    """Return USAGE_SERVICE of the app's settings; raise ImproperlyConfigured for what cannot work."""
    options = getattr(settings, "USAGE_SERVICE", None)
    if not isinstance(options, dict) or "URL" not in options:
        raise ImproperlyConfigured('USAGE_SERVICE must be a dict with at least "URL"')
    if unknown := options.keys() - OPTIONS:
        names = ", ".join(sorted(map(str, unknown)))
        raise ImproperlyConfigured(f"USAGE_SERVICE does not know {names}; there are {', '.join(sorted(OPTIONS))}")
    return options


def _product(given: Product | str | None) -> Product:
    """Return what says which product a page is of; a name without a dot stands for all pages."""
    if given is None or (isinstance(given, str) and "." not in given):
        if why := why_not(given, ProductName | None):
            raise ImproperlyConfigured(f"USAGE_SERVICE: PRODUCT {why}")
        return lambda _request: given
    return _named(given)


def _named(given: Given | str) -> Given:
    """Return the function itself, or the one that a dotted path names."""
    found: Given = import_string(given) if isinstance(given, str) else given
    return found


def _client(options: dict[str, Any]) -> UsageClient:
    spool_dir = options.get("SPOOL_DIR")
    try:
        return UsageClient(
            options["URL"],
            options.get("TOKEN"),
            spool_dir=Path(spool_dir) if spool_dir else None,
            strict=options.get("STRICT", settings.DEBUG),
            **options.get("CLIENT_OPTIONS", {}),
        )
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"USAGE_SERVICE: {error}") from None
