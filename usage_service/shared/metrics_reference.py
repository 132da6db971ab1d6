"""Reference of metrics, made from what a program exposes (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

HEAD = """# Metrics

Made from what the programs expose by `usage-service reference metrics`, from those of a running server, and
`probe-builder reference metrics`; a test keeps it true. Alerts on them are in [Incidents](guides/incidents.md).

Routes are templates (`/v1/builds/{build_id}`); what has none counts as `none`. Streams, and requests that ask to wait
(`wait=`, `at_least=`, `Prefer: wait`), are measured apart, because how long they take is the caller's choice. Where the
database does not answer, its metrics are left out and `glam_database_up` is 0.
"""


def metrics_reference(title: str, exposition: str) -> str:
    """Write a section in Markdown: each metric of an exposition, its type and its meaning."""
    return "\n".join(
        [f"## {title}", "", "| metric | type | meaning |", "|---|---|---|", *sorted(_rows(exposition)), ""]
    )


def _rows(exposition: str) -> Iterator[str]:
    for family in text_string_to_metric_families(exposition):
        name = family.name + ("_total" if family.type == "counter" else "")
        if not name.endswith("_created"):  # which the client library adds to each counter and histogram
            yield f"| `{name}` | {family.type} | {family.documentation} |"
