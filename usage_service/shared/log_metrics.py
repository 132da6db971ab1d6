"""The metric of a program's logs."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from usage_service.shared.bounded_stream import dropped_lines


class LogCollector(Collector):
    """Collector of how many lines of the log were dropped."""

    def collect(self) -> Iterator[Metric]:
        """Yield the counter."""
        help_text = "Lines of the log that could not be written, or not in time."
        yield CounterMetricFamily("glam_log_lines_dropped", help_text, value=dropped_lines())
