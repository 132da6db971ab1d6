"""Named SQL from `.sql` files: `-- name: why` starts a statement, the next name ends it."""

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- ([a-z_]+): .*$", re.MULTILINE)


@cache
def load_queries(path: Path) -> dict[str, str]:
    """The statements of a file by name; every statement has one."""
    before, *parts = _NAME.split(path.read_text("utf-8"))
    if re.sub(r"--.*", "", before).strip():
        raise ValueError(f"{path}: a statement stands before the first name")
    names = parts[::2]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: {', '.join(twice)} is the name of more than one statement")
    return dict(zip(names, (text.strip().rstrip(";") for text in parts[1::2]), strict=True))
