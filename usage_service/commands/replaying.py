"""`usage-service replay`: a question of one's own, asked of the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from usage_service.log.history import Log, read
from usage_service.replay.analyses import AnalysisFile, load_analysis
from usage_service.replay.checkpoints import CheckpointFile
from usage_service.replay.replaying import Replay
from usage_service.replay.results import check_out, show, write
from usage_service.replay.stopping import StoppedError
from usage_service.shared.progress import progress

EVERY = 1_000_000
INTERRUPTED = 130

Source = Annotated[
    str | None,
    typer.Option(
        help="postgresql:// or http:// URL, or an exported .parquet or .ndjson; "
        "by default DATABASE_URL, USAGE_SERVICE_URL, or the service on this machine"
    ),
]
Types = Annotated[list[str] | None, typer.Option("--type", help="only such events; may be given again")]
Partial = Annotated[bool, typer.Option("--partial", help="go on without events that were dropped from the log")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="keep the state here and go on from it. It is a pickle, and loading one runs code: only use your own",
    ),
]


def replay_command(
    analysis: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a class with apply(batch), result()")],
    source: Source = None,
    after: Annotated[int, typer.Option(min=0, help="only events after this position")] = 0,
    upto: Annotated[int | None, typer.Option(min=0, help="only events up to this position")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="only what occurred from then on")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="only what occurred before")] = None,
    types: Types = None,
    product: Annotated[str | None, typer.Option(help="only events of this product")] = None,
    partial: Partial = False,
    checkpoint: Checkpoint = None,
    every: Annotated[int, typer.Option(min=1, help="events between two writings of the checkpoint")] = EVERY,
    restart: Annotated[bool, typer.Option(help="begin anew rather than go on from the checkpoint")] = False,
    out: Annotated[Path | None, typer.Option(help="write the result there: .json, .ndjson, .csv or .parquet")] = None,
) -> None:
    """Ask the whole log: run an analysis of your own over it. The file is run as Python, with your rights."""
    if out is not None:
        check_out(out)
    file = load_analysis(analysis)
    chosen = tuple(types) if types else file.types

    def read_after(position: int, end: int | None) -> Log:
        return read(
            source, after=position, upto=end, since=since, until=until, types=chosen, product=product, partial=partial
        )

    filters = _filters(after=after, since=since, until=until, types=chosen, product=product)
    kept = CheckpointFile(checkpoint, file, filters) if checkpoint else None
    replay = Replay(file, read_after, after, upto)
    if kept is not None and not restart:
        replay.go_on_from(kept)
    _run(replay, file, kept, every)
    result = replay.result()
    if out is None:
        show(result, Console())
    else:
        write(result, out)


def _run(replay: Replay, file: AnalysisFile, kept: CheckpointFile | None, every: int) -> None:
    log = replay.log()
    begin = replay.position
    try:
        with progress(file.path.name, log.size) as report:
            replay.run(log, kept, every, lambda position: report(position - begin))
    except StoppedError:
        told = f"{kept.path} has it: run this again to go on" if kept else "nothing was kept without --checkpoint"
        Console(stderr=True).print(
            f"stopped at position {replay.position}; {told}", highlight=False, markup=False, soft_wrap=True
        )
        raise typer.Exit(INTERRUPTED) from None


def _filters(after: int, types: tuple[str, ...] | None, **given: str | None) -> dict[str, str | None]:
    """Return the options that decide which events are applied; `upto` does not, as more may be applied later."""
    return {"after": str(after), "type": ", ".join(sorted(types)) if types else None, **given}
