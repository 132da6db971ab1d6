"""A Django project without a database, whose middleware and views record what a test asks them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from unittest.mock import patch
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from tests.support.fake_service import FakeService
from usage_service.django import UsageMiddleware
from usage_service.django.middleware import Answer

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
MIDDLEWARE = [
    "usage_service.django.UsageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


@contextmanager
def django_project(urls: str) -> Iterator[None]:
    """Set up Django, once in a process, and answer by the addresses of the module `urls` meanwhile."""
    if not settings.configured:
        settings.configure(
            SECRET_KEY="of tests only",
            ALLOWED_HOSTS=["testserver", "127.0.0.1"],
            MIDDLEWARE=MIDDLEWARE,
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
            SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            LOGGING_CONFIG=None,
        )
        django.setup()
    with override_settings(ROOT_URLCONF=urls):
        yield


class Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread: a browser keeps some open that it does not use yet."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@contextmanager
def served_to_browsers() -> Iterator[str]:
    """Serve the project, and return its address."""
    server = make_server("127.0.0.1", 0, get_wsgi_application(), Server, Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def remembered_middlewares() -> Iterator[list[UsageMiddleware]]:
    """Collect the middlewares that a test makes, and close them."""
    made: list[UsageMiddleware] = []
    make = UsageMiddleware.__init__

    def remembered(self: UsageMiddleware, get_response: Answer) -> None:
        make(self, get_response)
        made.append(self)

    with patch.object(UsageMiddleware, "__init__", remembered):
        yield made
    for middleware in made:
        middleware.client.close(0)


def configured(url: str, **options: object) -> override_settings:
    return override_settings(USAGE_SERVICE={"URL": url, "PRODUCT": "fog", **options})


def recorded(service: FakeService, made: list[UsageMiddleware]) -> list[dict[str, Any]]:
    assert all(middleware.client.flush(10) for middleware in made)
    return list(service.events.values())
