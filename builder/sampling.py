"""Which clients are read, and how many each stands for."""

import zlib
from dataclasses import dataclass

SAMPLE_IDS = 100
SAMPLED_CHANNEL = "release"
SAMPLED_OS = "Windows"
SAMPLED_SINCE_VERSION = 119
SAMPLED_IDS = 10
SAMPLED_WEIGHT = 10


@dataclass(frozen=True)
class Sampling:
    """Windows clients with a `sample_id` below `sample_ids` are read, and each stands for `weight` clients."""

    sample_ids: int = SAMPLE_IDS
    weight: int = 1


def sampling_of(channel: str, probe: str, sampled_by_clients: frozenset[str]) -> Sampling:
    """The sampling of Windows clients on a channel; a probe that clients sample themselves keeps every id."""
    if channel != SAMPLED_CHANNEL:
        return Sampling()
    kept = SAMPLE_IDS if probe in sampled_by_clients else SAMPLED_IDS
    return Sampling(kept, SAMPLED_WEIGHT)


def safe_sample_id(client_id: str) -> int:
    """The `sample_id` of a client, 0-99: CRC32 of its id modulo 100 (mozfun `safe_sample_id`)."""
    return zlib.crc32(client_id.encode()) % SAMPLE_IDS
