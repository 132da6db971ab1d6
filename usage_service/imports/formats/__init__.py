"""Formats of files to import, in the order in which a file's content is asked for them."""

from __future__ import annotations

from usage_service.imports.formats import (
    access_log,
    catalogue_csv,
    ga4,
    glam_usage,
    glean_dictionary,
    load_balancer,
    metrics_yaml,
    nginx_json,
    page_requests,
    probe_scraper,
    product_details,
    revisions,
    wire_events,
)
from usage_service.imports.lines import Format
from usage_service.imports.recognition import not_utf8
from usage_service.imports.refusals import UnreadableFileError

FORMATS: tuple[Format, ...] = (
    wire_events.FORMAT,
    page_requests.FORMAT,
    access_log.FORMAT,
    nginx_json.FORMAT,
    load_balancer.FORMAT,
    glam_usage.FORMAT,
    ga4.FORMAT,
    revisions.FORMAT,
    product_details.FORMAT,
    probe_scraper.FORMAT,
    glean_dictionary.FORMAT,
    metrics_yaml.FORMAT,
    catalogue_csv.FORMAT,
)


UNKNOWN = "is of no format that can be read; --format names one: " + "; ".join(
    f"{one.name} ({one.title})" for one in FORMATS
)


def format_of(head: bytes, name: str, fault: str | None = None) -> Format:
    """Return the format of a file that begins with `head`. Raise UnreadableFileError when it is none that is known.

    `fault` is why the file could not be read further, where that is so.
    """
    found = next((one for one in FORMATS if one.recognizes(head, name)), None)
    if found is None:
        cut = fault and f"{fault}; copy it again"
        raise UnreadableFileError(f"{name}: {cut or not_utf8(head) or UNKNOWN}")
    return found
