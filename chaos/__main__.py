"""Command `python -m chaos [fault ...]`: faults under load, one after the other; the table in docs/reliability.md.

Exit status 1 when an acknowledged event was lost or is in the log twice, or when anything else went wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console

from chaos.faults import FAULTS
from chaos.faults.fault import Fault
from chaos.report import TITLES, Untried, cells, write_faults
from chaos.stack import make_template
from chaos.trial import Outcome, Rates, try_fault
from usage_service.shared.logs import configure_logs
from usage_service.shared.progress import progress

# `make bench` records about 5,000 events a second one by one, or 20,000 by the hundred: this is half of what can be
# recorded of both together.
RATES = Rates(singles=1_300, batches=60)

log = structlog.get_logger(__name__)


def main() -> None:
    options = _parse()
    configure_logs("warning" if sys.stderr.isatty() else "info")  # a terminal has a bar, and a line for each fault
    chosen = [FAULTS[name] for name in options.faults or FAULTS]
    rates = Rates(options.singles, options.batches)
    with tempfile.TemporaryDirectory(prefix="usage-chaos-") as directory:
        results = _try_all(chosen, Path(directory), rates, options)
    sys.exit(not all(result.well for result in results))


def _try_all(
    faults: Sequence[Fault], directory: Path, rates: Rates, options: argparse.Namespace
) -> list[Outcome | Untried]:
    directory.chmod(0o755)
    template = make_template(directory / "template")
    results: list[Outcome | Untried] = []
    with progress("faults", len(faults)) as report:
        for number, fault in enumerate(faults):
            report(number)
            log.info("fault", name=fault.name, number=number + 1, of=len(faults))
            results.append(_try(fault, template, directory, rates, options.hold))
            _tell(results[-1])
            if not options.no_table:  # after each, so that a run that is cut short has not been for nothing
                write_faults(results[-1:], list(FAULTS), rates)
        report(len(faults))
    return results


def _try(fault: Fault, template: Path, directory: Path, rates: Rates, hold: float | None) -> Outcome | Untried:
    if why := fault.missing():
        return Untried(fault.name, fault.says, f"not tried: {why}")
    try:
        return try_fault(fault, template, directory / fault.name, rates, hold)
    except Exception as error:  # the others are tried all the same
        log.exception("trial_failed", name=fault.name)
        return Untried(fault.name, fault.says, f"**the trial failed: {type(error).__name__}**", well=False)


def _tell(result: Outcome | Untried) -> None:
    told = dict(zip(TITLES[1:-1], cells(result), strict=True)) if isinstance(result, Outcome) else {"why": result.why}
    if sys.stderr.isatty():
        text = ", ".join(f"{name} {value}" for name, value in told.items())
        style = "green" if result.well else "red"
        Console(stderr=True, markup=False, highlight=False).print(f"{result.name}: {text}", style=style)
    else:
        (log.info if result.well else log.error)("tried", name=result.name, **told)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument(
        "faults", nargs="*", choices=[*FAULTS, []], metavar="fault", help=f"{', '.join(FAULTS)}; all by default"
    )
    parser.add_argument("--singles", type=float, default=RATES.singles, help="requests of one event a second")
    parser.add_argument("--batches", type=float, default=RATES.batches, help="requests of a hundred events a second")
    parser.add_argument("--hold", type=float, help="seconds that a fault lasts at most")
    parser.add_argument("--no-table", action="store_true", help="leave docs/reliability.md as it is")
    return parser.parse_args()


if __name__ == "__main__":
    main()
