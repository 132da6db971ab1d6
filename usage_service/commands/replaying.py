"""`usage-service replay`: a question of one's own, asked of the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usage_service.log.history import Log, read
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.replay.analyses import AnalysisFile, ReplayError, load_analysis
from usage_service.replay.checkpoints import CheckpointFile
from usage_service.replay.replaying import Replay
from usage_service.replay.results import ShownFormat, check_out, show, write
from usage_service.replay.stopping import StoppedError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.known_names import find_unknown
from usage_service.shared.local_services import database_url
from usage_service.shared.options import Since, Token, Until, given_address, refuse_given, refuse_overwriting
from usage_service.shared.progress import progress
from usage_service.shared.tables import tell

EVERY = 1_000_000

Source = Annotated[
    str | None,
    typer.Option(
        help="postgresql:// or http:// URL, or an exported file; "
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
Shown = Annotated[
    ShownFormat | None,
    typer.Option(
        "--format",
        show_default="table on a terminal, ndjson in a pipe",
        help="how to print rows: ndjson is a line each, json one document",
    ),
]
# In place of --source, as other commands have them.
FromUrl = Annotated[str | None, typer.Option("--url", callback=given_address, help="of a service, instead of --source")]
FromDatabase = Annotated[str | None, typer.Option("--database-url", help="instead of --source")]
FromDataDir = Annotated[
    Path | None, typer.Option("--data-dir", file_okay=False, help="of `usage-service up`, instead of --source")
]


def replay_command(
    context: typer.Context,
    analysis: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="a class with apply(batch), result()")],
    source: Source = None,
    after: Annotated[int, typer.Option(min=0, max=LARGEST_POSITION, help="only events after this position")] = 0,
    upto: Annotated[
        int | None, typer.Option(min=0, max=LARGEST_POSITION, help="only events up to this position")
    ] = None,
    since: Since = None,
    until: Until = None,
    types: Types = None,
    product: Annotated[str | None, typer.Option(help="only events of this product")] = None,
    partial: Partial = False,
    checkpoint: Checkpoint = None,
    every: Annotated[
        int, typer.Option(min=1, max=LARGEST_POSITION, help="events between two writings of the checkpoint")
    ] = EVERY,
    restart: Annotated[bool, typer.Option(help="begin anew rather than go on from the checkpoint")] = False,
    out: Annotated[Path | None, typer.Option(help="write the result there: .json, .ndjson, .csv or .parquet")] = None,
    form: Shown = None,
    url: FromUrl = None,
    token: Token = None,
    database_url: FromDatabase = None,
    data_dir: FromDataDir = None,
) -> None:
    """Ask the whole log: run an analysis of your own over it. The file is run as Python, with your rights."""
    if out is not None:
        check_out(out)
        refuse_given(context, ("form",), "it is of what is printed; the name of --out says the format of the file")
    if checkpoint is None:
        refuse_given(context, ("restart",), "there is nothing to begin anew; give --checkpoint")
    if upto is not None and upto <= after:
        raise typer.BadParameter(f"no position is after {after} and up to {upto}", param_hint="--upto")
    where = _source(source, url, database_url, data_dir)
    if out is not None:
        refuse_overwriting(out, [analysis, checkpoint, Path(where) if where else None], "--out")
    file = load_analysis(analysis)
    chosen = tuple(types) if types else file.types

    def read_after(position: int, end: int | None) -> Log:
        return read(
            where, after=position, upto=end, since=since, until=until, types=chosen, product=product, token=token,
            partial=partial,
        )  # fmt: skip

    filters = _filters(after=after, since=since, until=until, types=chosen, product=product)
    kept = CheckpointFile(checkpoint, file, filters) if checkpoint else None
    replay = Replay(file, read_after, after, upto)
    if kept is not None and restart:
        kept.refuse_other_file()
    elif kept is not None:
        replay.go_on_from(kept)
    _run(replay, file, kept, every)
    if replay.is_empty:
        if product is not None:
            _refuse_unknown(product, read(where, token=token, partial=partial), checkpoint)
        _tell_nothing(filters)
    result = replay.result()
    if out is None:
        show(result, form)
    else:
        write(result, out)


def _source(source: str | None, url: str | None, database: str | None, data_dir: Path | None) -> str | None:
    """Return the one source that the options name, None for the default; raise BadParameter for several."""
    given = [one for one in (source, url, database, data_dir) if one is not None]
    if len(given) > 1:
        raise typer.BadParameter("give one of --source, --url, --database-url and --data-dir", param_hint="--source")
    return database_url(None, data_dir) if data_dir is not None else next(iter(map(str, given)), None)


def _run(replay: Replay, file: AnalysisFile, kept: CheckpointFile | None, every: int) -> None:
    log = replay.log()
    begin = replay.position
    if log.end < begin:
        raise ReplayError(f"--after {begin}: the log ends at position {log.end}")
    try:
        with progress(file.path.name, log.size) as report:
            replay.run(log, kept, every, lambda position: report(position - begin))
    except StoppedError:
        told = f"{kept.path} has it: run this again to go on" if kept else "nothing was kept without --checkpoint"
        tell(f"stopped at position {replay.position}; {told}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _refuse_unknown(product: str, log: Log, checkpoint: Path | None) -> None:
    """Raise ReplayError for a product that no event of the log names, with the nearest that one does.

    The checkpoint of no event goes: it would refuse the right name.
    """
    named = {name for batch in log.batches() for name in batch.column("product").unique().to_pylist() if name}
    if unknown := find_unknown(dict.fromkeys(sorted(named), ()), product, None):
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        raise ReplayError(unknown.detail)


def _tell_nothing(filters: dict[str, str | None]) -> None:
    """Say that no event matched, and what was asked for: a name may be misspelt."""
    asked = " ".join(f"--{name} {value}" for name, value in filters.items() if value not in (None, "0"))
    tell(f"the result is of no event: none matches {asked}" if asked else "the log has no event", err=True)


def _filters(after: int, types: tuple[str, ...] | None, **given: str | None) -> dict[str, str | None]:
    """Return the options that decide which events are applied; `upto` does not, as more may be applied later."""
    return {"after": str(after), "type": ", ".join(sorted(types)) if types else None, **given}
