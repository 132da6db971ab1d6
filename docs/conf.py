"""Makes a site of these documents: `make docs` builds it, it is searchable, and is read without a network."""

import re

from sphinx.application import Sphinx

# The bar beside each page. Documents stay plain Markdown: what leads from the index to them is only here.
CHAPTERS = {
    "Begin": ["tutorial", "glossary"],
    "App": ["guides/app", "guides/builds", "guides/glam", "events"],
    "ETL": ["guides/etl", "guides/glam-tables", "statistics", "guides/warehouse"],
    "Analysis": [
        "guides/analyst", "guides/answers", "guides/notebooks", "guides/replay", "guides/mirror", "guides/history",
        "guides/access-logs", "imports",
    ],
    "Operation": ["guides/operating", "guides/incidents", "guides/access", "guides/follow"],
    "Reference": ["api", "scopes", "settings", "commands", "exit-codes", "metrics", "schema"],
    "How and why": ["architecture", "adr/index", "speed", "scale", "reliability"],
}  # fmt: skip

# Links to documents of the repository that are no pages of the site: their path is shown instead.
OUTSIDE = re.compile(r"\[([^]]*)\]\((?:\.\./)+((?:CONTRIBUTING|README|CHANGELOG|bench/RESULTS)\.md)[^)]*\)")

project = "GLAM usage"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# Names of classes of the API's types, which nobody looks up by a page of their own.
html_use_index = False
smartquotes = False


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Lead from the index to all pages; show drawings as text: only a script from elsewhere could draw them."""
    if name == "index":
        for title, pages in CHAPTERS.items():
            source[0] += "\n".join(
                ["", "```{toctree}", ":hidden:", ":titlesonly:", f":caption: {title}", "", *pages, "```", ""]
            )
    if name == "adr/index":
        source[0] += "\n```{toctree}\n:titlesonly:\n:glob:\n\n0*\n```\n"
    source[0] = source[0].replace("```mermaid", "```text").replace("```sql", "```postgresql")
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    """Connect what is done to each document."""
    app.connect("source-read", add_contents)
