"""total_sample: how many samples a build and system sent, whatever the ping type."""

from collections import Counter

from builder.probe import ANY, ClientGroup, Combination
from builder.sampling import SAMPLED_OS


class SampleCounts:
    """Counts the samples of each version, system and build over all ping types, and of the roll-ups."""

    def __init__(self, windows_weight: int) -> None:
        """A group with Windows clients counts as a whole `windows_weight` times, as upstream does."""
        self._windows_weight = windows_weight
        self._samples: Counter[Combination] = Counter()
        self._with_windows: set[Combination] = set()

    def add(self, group: ClientGroup, samples: int) -> None:
        """Count the samples of some clients."""
        for combination in {c._replace(ping_type=ANY) for c in group.roll_ups(by_build=True)}:
            self._samples[combination] += samples
            if group.os == SAMPLED_OS:
                self._with_windows.add(combination)

    def total(self, combination: Combination) -> int:
        """total_sample of a row."""
        everywhere = combination._replace(ping_type=ANY)
        return self._samples[everywhere] * (self._windows_weight if everywhere in self._with_windows else 1)
