"""`usage-service export`: the log as a file, which `usage-service import` puts into an empty service as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import IOBase
from pathlib import Path
from typing import Annotated, cast

import typer
import urllib3

from usage_service.imports.posting import PostAwayError, PostError
from usage_service.log.exports import Format, Moved, write_lines, write_parquet
from usage_service.log.stored_events import LARGEST_POSITION
from usage_service.shared.files import is_stdout
from usage_service.shared.options import DEFAULT_URL, Token, Url
from usage_service.shared.progress import progress
from usage_service.shared.remote import LATER, does_not_answer, token_or_kept, why_away
from usage_service.shared.service_errors import reason
from usage_service.shared.tables import tell

ACCEPT = {"ndjson": "application/x-ndjson", "parquet": "application/vnd.apache.arrow.stream"}
ENDINGS: dict[str, Format] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".gz": "ndjson", ".parquet": "parquet"}
NEVER_WRITTEN = (
    ".csv", ".json", ".tsv", ".xlsx", ".arrow", ".feather", ".avro", ".zst", ".bz2", ".xz", ".zip", ".parquet.gz"
)  # fmt: skip
PIECE_BYTES = 1 << 20
TIMEOUT = urllib3.Timeout(connect=5, read=60)


def export_command(
    file: Annotated[
        Path,
        typer.Argument(
            dir_okay=False, help="is written whole or not at all; NDJSON may end in .gz; - for the standard output"
        ),
    ],
    form: Annotated[
        Format | None, typer.Option("--format", help="what to write", show_default="that of the name, else ndjson")
    ] = None,
    after: Annotated[int, typer.Option(min=0, max=LARGEST_POSITION, help="only events after this position")] = 0,
    partial: Annotated[bool, typer.Option("--partial", help="without those that were dropped from the log")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Write the log to a file, or to a pipe or the standard output as it comes."""
    end = export_log(file, _format(file, form), after, url, token_or_kept(token), partial=partial)
    written = (
        f"the log from position {after + 1} to {end}" if after < end else f"no event: the log ends at position {end}"
    )
    tell(f"{file}: {written}", err=is_stdout(file))


def _format(file: Path, asked: Format | None) -> Format:
    """Return the format that is asked for, else that of the file's name; raise BadParameter where they differ."""
    name = file.name.lower()
    named = next((form for end, form in ENDINGS.items() if name.endswith(end)), None)
    if any(one.endswith(NEVER_WRITTEN) for one in (name, name.removesuffix(".gz"))):
        raise typer.BadParameter(f"{file.name}: a log is written as .ndjson, .ndjson.gz or .parquet", param_hint="FILE")
    if asked and named and asked != named:
        raise typer.BadParameter(
            f"{file.name} is the name of a file of {named}: choose another name, or --format {named}",
            param_hint="--format",
        )
    return asked or named or "ndjson"


def export_log(path: Path, form: Format, after: int, url: str, token: str | None, *, partial: bool = False) -> int:
    """Write the log after a position to a file; return the position that the export ends at.

    Raise PostError, also where events were dropped that it should have, unless `partial`, or the log ends before.
    """
    headers = {"Accept": ACCEPT[form]} | ({"Authorization": f"Bearer {token}"} if token else {})
    address = f"{url.rstrip('/')}/v1/events?after={after}{'&partial=true' if partial else ''}"
    with _reading(url, address, headers) as response:
        end = int(response.headers["Log-Position"])
        if after > end:
            raise PostError(f"--after {after}: the log ends at position {end}")
        with progress(path.name, end - after) as report:
            _write(path, form, response, lambda position: report(position - after))
    return end


def _write(path: Path, form: Format, response: urllib3.BaseHTTPResponse, moved: Moved) -> None:
    if form == "parquet":
        write_parquet(path, cast(IOBase, response), moved)
    else:
        write_lines(path, response.stream(PIECE_BYTES), moved)


@contextmanager
def _reading(url: str, address: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
    with urllib3.PoolManager(timeout=TIMEOUT, retries=urllib3.Retry(3, backoff_factor=0.2)) as pool:
        try:
            with closing(pool.request("GET", address, headers=headers, preload_content=False)) as response:
                if response.status != 200:
                    kind = PostAwayError if response.status in LATER else PostError
                    raise kind(f"{address} answered {response.status}: {reason(response.status, response.data)}")
                if "Log-Position" not in response.headers:
                    raise PostError(f"{address} is not of a usage service: its answer has no Log-Position")
                yield response
        except urllib3.exceptions.MaxRetryError as error:
            raise PostAwayError(does_not_answer(url, why_away(error))) from None
        except urllib3.exceptions.HTTPError as error:
            raise PostAwayError(f"{address} cannot be read ({error}); run the export again") from None
