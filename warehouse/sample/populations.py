"""The senders of the sample pings and their tables: clients and builds of Firefox on desktop and on Android."""

from __future__ import annotations

import datetime as dt
import zlib
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import numpy as np

BUILDS, DAYS_A_BUILD, NEWEST_VERSION, BUILDS_A_VERSION = 30, 3, 152, 10
REGRESSED_BUILDS = range(15, 22)
RARE_CLIENTS = 6
PROVIDERS = ("Comcast Cable", "Deutsche Telekom", "browserstack", "BrowserStack", None)
VERSIONS = {"nightly": "{}.0a1", "beta": "{}.0", "release": "{}.0.1"}
FENIX_EPOCH = dt.datetime(2014, 12, 28, tzinfo=dt.UTC)
FENIX_BASE, ARM64 = 0x78200000, 1


@dataclass(frozen=True)
class Population:
    """The clients of a product: their share of the sample's, and the shares of their systems and channels."""

    product: str
    share: float
    systems: dict[str, float]
    channels: dict[str, float]

    def clients(self, count: int, seed: int) -> tuple[list[str], list[int], list[str], list[str], list[str | None]]:
        """Return columns of the population's share of `count` clients: id, sample_id, system, channel, provider."""
        random, size = np.random.default_rng(seed), max(2 * RARE_CLIENTS, round(count * self.share))
        ids = [str(UUID(bytes=random.bytes(16), version=4)) for _ in range(size)]
        samples = [zlib.crc32(name.encode()) % 100 for name in ids]
        drawn = partial(_drawn, random, size)
        providers = random.choice(np.array(PROVIDERS, dtype=object), size, p=[0.3, 0.3, 0.005, 0.005, 0.39])
        return ids, samples, drawn(self.systems), drawn(self.channels), providers.tolist()

    def build_id(self, made: dt.datetime) -> str:
        """Return the build's id as the product's clients send it: 14 digits, or 10 that count hours on Android."""
        if self.product == "fog":
            return made.strftime("%Y%m%d%H%M%S")
        hours = int((made - FENIX_EPOCH).total_seconds()) // 3600
        return str(FENIX_BASE | hours << 3 | ARM64)

    def versions(self, build: int, made: dt.datetime) -> dict[str, str]:
        """Return the version that clients of each channel send; on Android's nightly it names the build only."""
        newest = _newest(build)
        sent = {channel: text.format(newest - age) for age, (channel, text) in enumerate(VERSIONS.items())}
        return sent | ({"nightly": f"Nightly {made:%y%m%d %H:%M}"} if self.product == "fenix" else {})


def _drawn(random: np.random.Generator, size: int, shares: dict[str, float]) -> list[str]:
    return list(random.choice(list(shares), size, p=list(shares.values())).tolist())


DESKTOP = Population(
    "fog", 1.0, {"Windows": 0.7, "Linux": 0.12, "Darwin": 0.18}, {"nightly": 0.75, "beta": 0.15, "release": 0.1}
)
ANDROID = Population("fenix", 0.5, {"Android": 1.0}, {"nightly": 0.5, "beta": 0.25, "release": 0.25})


@dataclass(frozen=True)
class SampleTable:
    """A table of pings: the population that sends them, and on which channels."""

    population: Population
    dataset: str
    ping: str
    channels: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the table's name in its dataset."""
        return f"{self.ping}_v1"


DATASETS = (
    (DESKTOP, "firefox_desktop", tuple(DESKTOP.channels)),
    (ANDROID, "org_mozilla_fenix", ("nightly",)),
    (ANDROID, "org_mozilla_firefox_beta", ("beta",)),
    (ANDROID, "org_mozilla_firefox", ("release",)),
)
TABLES = tuple(
    SampleTable(population, f"{dataset}_stable", ping, channels)
    for population, dataset, channels in DATASETS
    for ping in ("metrics", "baseline")
)


@dataclass(frozen=True)
class GeckoviewTable:
    """The table that has the version of Fenix nightly by build hour."""

    dataset: str = "org_mozilla_fenix"
    name: str = "geckoview_version"
    columns: tuple[str, ...] = ("build_hour", "geckoview_major_version")

    def rows(self, until: dt.date) -> tuple[list[dt.datetime], list[int]]:
        """Return the columns: the hours of the builds, and their versions."""
        hours = [_build_time(until, build).replace(minute=0, second=0) for build in range(BUILDS)]
        return hours, [_newest(build) for build in range(BUILDS)]


GECKOVIEW = GeckoviewTable()


def builds(population: Population, until: dt.date) -> list[tuple[int, dt.datetime, str, dict[str, str], int, bool]]:
    """Return the builds' rows: number, time, build id, version by channel, seconds until the next, regressed."""
    made = [_build_time(until, build) for build in range(BUILDS)]
    ends = [*made[1:], dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), dt.UTC)]
    return [
        (build, start, population.build_id(start), population.versions(build, start),
         int((end - start).total_seconds()), build in REGRESSED_BUILDS)
        for build, (start, end) in enumerate(zip(made, ends, strict=True))
    ]  # fmt: skip


def _build_time(until: dt.date, build: int) -> dt.datetime:
    # The last one on the day `until`, the others every third day before.
    day = until - dt.timedelta(days=DAYS_A_BUILD * (BUILDS - 1 - build))
    return dt.datetime.combine(day, dt.time(9 if build % 2 else 21, 31, 7), dt.UTC)


def _newest(build: int) -> int:
    return NEWEST_VERSION - (BUILDS - 1 - build) // BUILDS_A_VERSION
