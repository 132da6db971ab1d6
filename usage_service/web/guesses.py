"""Limit on wrong tokens: so many from one address, with a trace in the log and in the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import structlog
from aiohttp import web
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from usage_service.limits import Limits
from usage_service.problems import Problem
from usage_service.shared.settings import SettingsError
from usage_service.web.paths import logged_path

Network: TypeAlias = "IPv4Network | IPv6Network"

AT_ONCE = 20  # wrong tokens that an address may send in a burst
SECONDS_EACH = 6.0  # after which it may send one more
LOG_SECONDS = 1.0  # between two lines of the log, whatever the number of addresses
HOUSEHOLD_BITS = 64  # of an IPv6 address: who has one has all that begin so
FORWARDED_FOR = "X-Forwarded-For"

log = structlog.get_logger(__name__)


def proxies_of(setting: str | None) -> tuple[Network, ...]:
    """Return the networks that USAGE_SERVICE_TRUSTED_PROXIES names; raise SettingsError for what is none."""
    try:
        return tuple(ip_network(one.strip()) for one in (setting or "").split(",") if one.strip())
    except ValueError as error:
        raise SettingsError(
            f"USAGE_SERVICE_TRUSTED_PROXIES: {error}; give addresses or networks by commas, such as 10.0.0.0/8"
        ) from None


class Guesses(Collector):
    """Counter of wrong tokens, and of those that an address may still send."""

    def __init__(self, proxies: tuple[Network, ...]) -> None:
        self._proxies = proxies
        self._limits = Limits(1 / SECONDS_EACH, burst_seconds=AT_ONCE * SECONDS_EACH)
        self._numbers = {"refused": 0, "limited": 0}
        self._logged_at = float("-inf")
        self._unlogged = 0

    def require_allowed(self, request: web.Request) -> None:
        """Raise a Problem (429) when the caller's address has sent as many wrong tokens as it may."""
        address = self.address_of(request)
        seconds = self._limits.retry_seconds(address, time.monotonic())
        if seconds:
            self._note("limited", address, request)
            detail = f"too many wrong tokens came from your address; try again in {seconds} s"
            raise Problem(429, "Too many wrong tokens", detail, headers={"Retry-After": str(seconds)})

    def count(self, request: web.Request) -> None:
        """Count a wrong token against the caller's address."""
        address = self.address_of(request)
        self._limits.take(address, time.monotonic())
        self._note("refused", address, request)

    def address_of(self, request: web.Request) -> str:
        """Return the caller's address: the last that no trusted proxy has; of IPv6 the part that names a household."""
        hops = ",".join(request.headers.getall(FORWARDED_FOR, ())).split(",")
        found = _address(request.remote or "")
        while found is not None and hops and any(found in network for network in self._proxies):
            before = _address(hops.pop().strip())
            if before is None:
                break
            found = before
        if isinstance(found, IPv6Address):
            return str(ip_network((found, HOUSEHOLD_BITS), strict=False))
        return str(found)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the number of wrong tokens by what became of them."""
        wrong = CounterMetricFamily(
            "glam_wrong_tokens", "Wrong tokens and log-ins: refused (401), or limited (429).", labels=["answer"]
        )
        for answer, number in self._numbers.items():
            wrong.add_metric([answer], number)
        yield wrong

    def _note(self, answer: str, address: str, request: web.Request) -> None:
        self._numbers[answer] += 1
        now = time.monotonic()
        if now - self._logged_at < LOG_SECONDS:
            self._unlogged += 1
            return
        log.warning("wrong_token", answer=answer, address=address, path=logged_path(request), left_out=self._unlogged)
        self._logged_at, self._unlogged = now, 0


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
