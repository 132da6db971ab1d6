"""Random pings of one probe of each metric type, with all the oddities that raw pings have."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.support.glam_today_reference import Ping

RUN_DATE = date(2026, 11, 20)
RUN_NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BUILDS = (
    "20261030093000",
    "20261030091500",
    "20261112210000",
    "20261119100000",
    "20261119107700",
    "2026",
    "20250101000000",
)
# 2026-10-30 09, 2026-11-12 21 and 2026-11-19 10; no minute, no day of the year, too old.
FENIX_BUILDS = ("83030930", "0000830285", "83162100", "83231000", "83231099", "83671000", "73031000")
KEYS = ("0", "1", "2", "3", "5", "17", "64", "90", "1000", "oops", "18")
LABELS = ("a", "b", 'it\'s "quoted"', "nul\0\\x00", "ünïcode", "")
NUMBERS = (0, 1, 2, 7, 300, 12345, -4, 2**41, 2**63 - 1)
COUNTS = (0, 1, 2, 5, 40, -1, 2**41, 2**63 - 1)


def random_pings(
    seed: int, count: int, channel: str = "nightly", clients: int = 25, dataset: str = "firefox_desktop"
) -> list[Ping]:
    """Return `count` pings of some clients; equal seeds make equal pings."""
    chance = random.Random(f"{seed} {channel} {dataset}")
    homes = {f"client-{n}": chance.choice(("Windows", "Windows", "Linux", "Darwin", None)) for n in range(clients)}
    return [_ping(chance, homes, channel, dataset) for _ in range(count)]


def _ping(chance: random.Random, homes: dict[str, str | None], channel: str, dataset: str) -> Ping:
    client = chance.choice(list(homes))
    builds = BUILDS if dataset == "firefox_desktop" else FENIX_BUILDS
    return Ping(
        client_id=None if chance.random() < 0.03 else client,
        submitted=_time(chance),
        os=chance.choice(("Linux", "Windows", "*", "Lin\0ux")) if chance.random() < 0.05 else homes[client],
        app_build=chance.choices(builds, (8, 2, 6, 6, 1, 1, 1))[0],
        app_channel="esr" if chance.random() < 0.03 else channel,
        display_version=chance.choices(
            ("150.0a1", "149.0", "148", "147.0.2", "151.0", "beta", None), (8, 4, 2, 1, 1, 1, 1)
        )[0],
        isp=chance.choices((None, "BrowserStack", "Home"), (8, 1, 8))[0],
        sample_id=int(client[7:]) % 20,
        ping_type=chance.choices(("metrics", "baseline"), (4, 1))[0],
        sent=_sent(chance),
        dataset=dataset,
    )


def _time(chance: random.Random) -> datetime:
    day = RUN_DATE - timedelta(days=chance.choices((-1, 0, 1, 3, 30, 370), (1, 6, 6, 6, 3, 1))[0])
    return datetime(day.year, day.month, day.day, chance.randrange(24), 30, tzinfo=UTC)


def _sent(chance: random.Random) -> dict[str, Any]:
    """Return the value that a ping sends of each metric type."""
    distributions = ("timing_distribution", "memory_distribution", "custom_distribution")
    return {
        "boolean": chance.choice((None, True, True, False)),
        **{name: _number(chance) for name in ("counter", "quantity", "timespan")},
        "labeled_counter": _labeled(chance, lambda: chance.choice(NUMBERS)),
        "labeled_boolean": _labeled(chance, lambda: chance.random() < 0.7),
        "dual_labeled_counter": _labeled(chance, lambda: _labeled(chance, lambda: chance.choice(NUMBERS))),
        **{name: _distribution(chance) for name in distributions},
        **{f"labeled_{name}": _labeled(chance, lambda: _distribution(chance)) for name in distributions},
    }


def _number(chance: random.Random) -> int | None:
    return chance.choices((None, *NUMBERS), (6, 3, 4, 4, 4, 3, 3, 1, 1, 1))[0]


def _labeled(chance: random.Random, value: Callable[[], Any]) -> tuple[tuple[str, Any], ...]:
    labels = chance.choices(LABELS, (6, 4, 2, 1, 1, 1), k=chance.choice((0, 1, 1, 2)))
    return tuple((label, value()) for label in dict.fromkeys(labels))


def _distribution(chance: random.Random) -> tuple[tuple[str, int], ...]:
    if chance.random() < 0.2:
        return ()
    keys = chance.sample(KEYS, chance.randint(1, 5))
    counts = chance.choices(COUNTS, (3, 6, 6, 4, 3, 1, 1, 1), k=len(keys))
    return tuple(zip(keys, counts, strict=True))
