"""Which clients are read, and how many each stands for."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SAMPLE_IDS = 100
# Of each channel the sample ids of which Windows clients are read, as GLAM's ETL does; of others all.
SAMPLED_CHANNELS: Mapping[str, int] = MappingProxyType({"release": 10})


@dataclass(frozen=True)
class Sampling:
    """Windows clients with a `sample_id` below `sample_ids` are read, and each stands for `weight` clients."""

    sample_ids: int = SAMPLE_IDS
    weight: int = 1


def sampling_of(
    channel: str, probe: str, sampled_by_clients: frozenset[str], channels: Mapping[str, int] = SAMPLED_CHANNELS
) -> Sampling:
    """The sampling of Windows clients on a channel; a probe that clients sample themselves keeps every id."""
    kept = channels.get(channel, SAMPLE_IDS)
    return Sampling(SAMPLE_IDS if probe in sampled_by_clients else kept, SAMPLE_IDS // kept)


def safe_sample_id(client_id: str) -> int:
    """The `sample_id` of a client, 0-99: CRC32 of its id modulo 100 (mozfun `safe_sample_id`)."""
    return zlib.crc32(client_id.encode()) % SAMPLE_IDS
