"""Checks of the warehouse: that BigQuery, or what stands in for it, answers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import urllib3

from usage_service.doctor.findings import Finding
from usage_service.shared.launch import installing
from usage_service.shared.local_services import WAREHOUSE_URL_FILE

TIMEOUT = urllib3.Timeout(connect=3, read=10)
URL, PROJECT, LOCATION = "PROBE_BUILDER_WAREHOUSE_URL", "GOOGLE_CLOUD_PROJECT", "PROBE_BUILDER_LOCATION"


def warehouse_finding(environ: Mapping[str, str], data_dir: Path) -> Finding:
    """Check the warehouse that the builder's settings name, else that of the local stack in `data_dir`."""
    if url := environ.get(URL):
        return _answering(url, f"start it (`probe-builder warehouse serve`), or mend {URL}")
    if project := environ.get(PROJECT):
        return _bigquery(project, environ.get(LOCATION, "US"))
    kept = data_dir / WAREHOUSE_URL_FILE
    if kept.exists():
        return _answering(kept.read_text("utf-8").strip(), f"start `usage-service up --data-dir {data_dir}`")
    return Finding("warehouse", "unchecked", "nothing names one", f"set {URL} or {PROJECT} as the builder has it")


def _answering(url: str, mend: str) -> Finding:
    try:
        with urllib3.PoolManager(timeout=TIMEOUT, retries=False) as pool:
            response = pool.request("GET", f"{url.rstrip('/')}/__version__")
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return Finding("warehouse", "wrong", f"{url} does not answer ({str(error).partition(': ')[2] or error})", mend)
    if response.status != 200:
        return Finding("warehouse", "wrong", f"{url} answers {response.status}", mend)
    return Finding("warehouse", "ok", f"{url} answers")


def _bigquery(project: str, location: str) -> Finding:
    """Plan a query, which reads nothing and costs nothing."""
    try:
        # A server has none of Google's packages.
        planning = import_module("usage_service.shared.bigquery.planning")
        planning.plan_nothing(project, location)
    except ImportError:
        return Finding("warehouse", "unchecked", f"{project} of BigQuery", installing("builder"))
    except Exception as error:  # of Google's libraries, or of whichever way credentials are found
        said = f"BigQuery refuses {project}: {' '.join(str(error).split())[:200]}"
        return Finding("warehouse", "wrong", said, "see GOOGLE_APPLICATION_CREDENTIALS and docs/guides/operating.md")
    return Finding("warehouse", "ok", f"BigQuery plans queries of {project}")
