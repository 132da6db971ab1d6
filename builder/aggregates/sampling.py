"""Sampling of Windows clients: the share of them that is read, and how many clients each stands for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

SAMPLE_IDS = 100  # a client's is CRC32(client_id) modulo 100; the pings have it
# By channel, how many sample ids of Windows clients are read, as by GLAM's ETL; on other channels all.
SAMPLED_CHANNELS: Mapping[str, int] = MappingProxyType({"release": 10})


@dataclass(frozen=True)
class Sampling:
    """Windows clients with a `sample_id` below `sample_ids` are read, and each stands for `weight` clients."""

    sample_ids: int = SAMPLE_IDS
    weight: int = 1


def sampling_of(
    channel: str, probe: str, sampled_by_clients: frozenset[str], channels: Mapping[str, int] = SAMPLED_CHANNELS
) -> Sampling:
    """Return the sampling of Windows clients on a channel; a probe that clients sample themselves keeps every id."""
    kept = channels.get(channel, SAMPLE_IDS)
    return Sampling(SAMPLE_IDS if probe in sampled_by_clients else kept, SAMPLE_IDS // kept)
