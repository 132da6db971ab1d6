"""Notebooks run as a kernel does, without one: cell after cell, in one namespace, the last expression of each is shown.

`python -m tests.support.notebooks` runs those of docs/notebooks against USAGE_SERVICE_URL and keeps what they show.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

from tests.support.snippets import ROOT

FOLDER = ROOT / "docs" / "notebooks"
Output = dict[str, Any]


def read_notebook(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_notebook(notebook: dict[str, Any]) -> list[list[Output]]:
    """Run the cells and return what each shows, in the notebook's own form."""
    names: dict[str, Any] = {}
    return [_run_cell("".join(cell["source"]), names) for cell in code_cells(notebook)]


def _run_cell(source: str, names: dict[str, Any]) -> list[Output]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "notebook", "exec"), names)
        value = (
            eval(compile(ast.Expression(last.value), "notebook", "eval"), names) if isinstance(last, ast.Expr) else None
        )
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if value is not None:
        outputs.append(
            {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": _forms(value)}
        )
    return outputs


def _forms(value: object) -> dict[str, Any]:
    if draw := getattr(value, "_repr_svg_", None):
        return {"image/svg+xml": [draw()]}
    return {"text/plain": str(value).splitlines(keepends=True)}


def keep_outputs(path: Path) -> None:
    """Run a notebook and write what it shows into it."""
    notebook = read_notebook(path)
    for cell, outputs in zip(code_cells(notebook), run_notebook(notebook), strict=True):
        cell["outputs"] = outputs
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    for each in sorted(FOLDER.glob("*.ipynb")):
        keep_outputs(each)
