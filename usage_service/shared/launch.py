"""The start of a program: a package that is missing is named with the command that installs it.

Nothing but the standard library is imported here, because an app that installs the client alone has the programs, too.
"""

import gc
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import distribution
from urllib.parse import unquote, urlsplit

from usage_service.shared.interrupts import end_when_interrupted

DISTRIBUTION = "glam-usage"
OURS = frozenset({"usage_service", "builder", "warehouse"})


def launch(program: str, module: str, extra: str, extras: Mapping[str, str]) -> None:
    """Run `main()` of a module, and exit with 2 where a package is missing that an extra installs.

    `extras` has the commands that need another extra than `extra`, and its name.
    """
    end_when_interrupted()
    gc.disable()  # until the program runs: nothing that is loaded is garbage, and to look takes a sixth of the start
    from usage_service.shared.bounded_stream import replace_stderr

    replace_stderr()
    try:
        import_module(module).main()
    except ModuleNotFoundError as error:
        missing = error.name or str(error)
        if missing.partition(".")[0] in OURS:
            raise
        needed = extras.get(sys.argv[1] if len(sys.argv) > 1 else "", extra)
        sys.stderr.write(f"{program}: {missing} is not installed; run: {installing(needed)}\n")
        sys.exit(2)


def installing(extra: str) -> str:
    """Return the command that installs an extra: from the checkout, where this was installed from one (PEP 610)."""
    told = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    place = unquote(urlsplit(told["url"]).path) if "dir_info" in told else DISTRIBUTION
    return f"pip install '{place}[{extra}]'"
