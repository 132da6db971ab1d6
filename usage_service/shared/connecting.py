"""Connections to the hosts of an address: which is tried first, and what is said of an address that is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from usage_service.shared.settings import SettingsError

CONNECT_SECONDS = 5.0  # for all hosts of an address together


class AddressError(SettingsError):
    """The address of the database, or the login that it names, is refused; the message says how to mend it.

    At the start that is a mistake. Later it may pass: a password that is being changed, a database being restored.
    """


class PooledError(AddressError):
    """The address is of a pooler that gives each transaction another session."""

    def __init__(self) -> None:
        super().__init__(
            "LISTEN_DATABASE_URL must be a direct address of the database, without a pooler; "
            "set it where DATABASE_URL leads to one"
        )


# The mistakes in an address that a connection tells, and how each is mended.
MISTAKES: tuple[tuple[type[Exception], str], ...] = (
    (asyncpg.InvalidPasswordError, "give the role's password, or set another with ALTER ROLE ... PASSWORD"),
    (asyncpg.InvalidAuthorizationSpecificationError, "let the role log in: CREATE ROLE ... LOGIN, and pg_hba.conf"),
    (asyncpg.InvalidCatalogNameError, "create the database, or name another"),
    (asyncpg.InsufficientPrivilegeError, "grant the login role what it asks for"),
    (asyncpg.InvalidParameterValueError, "install the schema first (`usage-service migrate`), or change the parameter"),
    (asyncpg.UndefinedObjectError, "take the parameter out of the address: PostgreSQL does not know it"),
    (asyncpg.CantChangeRuntimeParamError, "take the parameter out of the address"),
    (ValueError, "it must be like postgresql://user:password@host:5432/database"),
)


async def connect_to(url: str, options: Mapping[str, Any]) -> asyncpg.Connection[asyncpg.Record]:
    """Connect to a host of the address, each tried for its share of CONNECT_SECONDS; the options are asyncpg's.

    asyncpg itself tries the hosts for the whole time together: one that swallows everything keeps it from the next.
    One that failed is tried last from then on, so that a caller who waits for less comes to the others too. Raise
    AddressError for what is wrong with the address, PooledError for a pooler that refuses session settings.
    """
    async with _mistakes_named(url):
        hosts = _hosts(url)
        failure: Exception | None = None
        for host in tuple(hosts):
            try:
                return await asyncpg.connect(host, timeout=CONNECT_SECONDS / len(hosts), **options)
            except BaseException as error:  # cancelled, too
                hosts.remove(host)
                hosts.append(host)
                if not isinstance(error, (OSError, asyncpg.PostgresError, asyncpg.InternalClientError)):
                    raise
                failure = error
        assert failure is not None
        raise failure


@lru_cache(maxsize=64)
def _hosts(url: str) -> list[str]:
    """Return an address for each host of this one, in the order in which they are to be tried."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    urls = (
        [urlunsplit(parts._replace(netloc=login + at + host)) for host in hosts.split(",")] if "," in hosts else [url]
    )
    if any(urlsplit(one).port == 0 for one in urls):  # `port` itself raises above 65535, where asyncpg takes another
        raise ValueError("Port out of range 1-65535")
    if len(urls) > 1 and "target_session_attrs=" not in parts.query:
        raise AddressError(
            "DATABASE_URL has several hosts: add target_session_attrs=read-write, or one that was demoted may answer"
        )
    return urls


@asynccontextmanager
async def _mistakes_named(url: str) -> AsyncIterator[None]:
    """Raise AddressError for what is wrong with the address, PooledError for a pooler's refusal of session settings.

    A pooler takes few of them at the start.
    """
    try:
        yield
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" in str(error):
            raise PooledError from None
        raise
    except SettingsError:
        raise
    except tuple(kind for kind, _ in MISTAKES) as error:
        mend = next(mend for kind, mend in MISTAKES if isinstance(error, kind))
        raise AddressError(f"DATABASE_URL: {error}; {mend}") from None
    except ConnectionError as error:
        if "rejected SSL" not in str(error):
            raise
        raise AddressError(f"DATABASE_URL: {error}; let it take TLS (ssl = on), or leave sslmode out") from None
    except FileNotFoundError as error:
        if "ssl" not in url:  # a socket that is not there yet
            raise
        raise AddressError(f"DATABASE_URL: a file that it names is not there ({error})") from None
