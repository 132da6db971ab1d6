"""Random pings of one probe, with all the oddities that raw pings have."""

import random
from datetime import UTC, date, datetime, timedelta

from tests.reference_statistics import Ping

RUN_DATE = date(2026, 11, 20)
BUILDS = (
    "20261030093000",
    "20261030091500",
    "20261112210000",
    "20261119100000",
    "20261119107700",
    "2026",
    "20250101000000",
)
KEYS = ("0", "1", "2", "3", "5", "17", "64", "90", "1000", "oops", "18")


def random_pings(seed: int, count: int, channel: str = "nightly", clients: int = 25) -> list[Ping]:
    """As many pings of some clients, the same for the same seed."""
    chance = random.Random(seed)
    homes = {f"client-{n}": chance.choice(("Windows", "Windows", "Linux", "Darwin", None)) for n in range(clients)}
    return [_ping(chance, homes, channel) for _ in range(count)]


def _ping(chance: random.Random, homes: dict[str, str | None], channel: str) -> Ping:
    client = chance.choice(list(homes))
    return Ping(
        client_id=None if chance.random() < 0.03 else client,
        submitted=_time(chance),
        os=chance.choice(("Linux", "Windows")) if chance.random() < 0.05 else homes[client],
        app_build=chance.choices(BUILDS, (8, 2, 6, 6, 1, 1, 1))[0],
        app_channel="esr" if chance.random() < 0.03 else channel,
        display_version=chance.choices(
            ("150.0a1", "149.0", "148", "147.0.2", "151.0", "beta", None), (8, 4, 2, 1, 1, 1, 1)
        )[0],
        isp=chance.choices((None, "BrowserStack", "Home"), (8, 1, 8))[0],
        sample_id=int(client[7:]) % 20,
        ping_type=chance.choices(("metrics", "baseline"), (4, 1))[0],
        value=chance.choices((None, 0, 1, 2, 7, 300, 12345, -4, 2**41), (6, 3, 4, 4, 4, 3, 3, 1, 1))[0],
        values=_distribution(chance),
    )


def _time(chance: random.Random) -> datetime:
    day = RUN_DATE - timedelta(days=chance.choices((-1, 0, 1, 3, 30, 370), (1, 6, 6, 6, 3, 1))[0])
    return datetime(day.year, day.month, day.day, chance.randrange(24), 30, tzinfo=UTC)


def _distribution(chance: random.Random) -> tuple[tuple[str, int], ...]:
    if chance.random() < 0.2:
        return ()
    keys = chance.sample(KEYS, chance.randint(1, 5))
    counts = chance.choices((0, 1, 2, 5, 40, -1, 2**41), (3, 6, 6, 4, 3, 1, 1), k=len(keys))
    return tuple(zip(keys, counts, strict=True))
