"""Prometheus' own tool: an installed one, or the one that `.ci/promtool` has put into the user's cache."""

from __future__ import annotations

import shutil

import platformdirs

PROMTOOL = shutil.which("promtool") or shutil.which(
    platformdirs.user_cache_path("glam-usage") / "promtool" / "promtool"
)
