"""`usage-service backtest`: what the hot list would have caught; `sample-traffic`: made history to try it on."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import msgspec
import typer

from usage_service.commands.times import read_time
from usage_service.hotlist.backtest.chart import chart
from usage_service.hotlist.backtest.files import read_counts
from usage_service.hotlist.backtest.replaying import (
    BUDGETS,
    NIGHTS,
    Backtest,
    PolicyResult,
    backtest,
    marked_shares,
)
from usage_service.hotlist.backtest.sample_traffic import SEED, Kind, Shape, generate_traffic
from usage_service.hotlist.counts import DayCounts
from usage_service.shared.files import written_whole
from usage_service.shared.options import DEFAULT_URL, Token, Url, refuse_given, refuse_overwriting, require_suffix
from usage_service.shared.progress import progress
from usage_service.shared.remote import send
from usage_service.shared.table_layout import Column
from usage_service.shared.tables import Format, FormatOption, chosen_format, show_csv, show_json, show_table, tell
from usage_service.shared.unknown_names import refuse_unknown

FIRST_DAY = date(2026, 1, 5)
EXPLANATION = "= no difference from the hot list, + more than it; all others less (95 %, all comparisons together)"

Files = Annotated[
    list[Path] | None,
    typer.Argument(exists=True, dir_okay=False, help="NDJSON of events or page requests; none: the service's history"),
]
Days = Annotated[int, typer.Option(min=2, max=3_660, help="of traffic")]


def backtest_command(
    context: typer.Context,
    files: Files = None,
    product: Annotated[str | None, typer.Option(help="of this product only")] = None,
    nights: Annotated[int, typer.Option(min=1, max=180, help="how many of the last nights to replay")] = NIGHTS,
    budgets: Annotated[str, typer.Option(help="numbers of probes")] = ",".join(map(str, BUDGETS)),
    sample: Annotated[bool, typer.Option(help="replay made traffic: half a year of 2,000 probes")] = False,
    kind: Annotated[Kind, typer.Option(help="of the made traffic")] = "mixed",
    probes: Annotated[int, typer.Option(min=1, max=20_000, help="of the made traffic")] = 2_000,
    days: Annotated[int, typer.Option(min=2, max=3_660, help="of the made traffic")] = 180,
    seed: Annotated[int, typer.Option(min=0, help="of the made traffic")] = SEED,
    picture: Annotated[Path | None, typer.Option("--chart", dir_okay=False, help="write an SVG there")] = None,
    form: FormatOption = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Replay history: what share of the next day's requests each way to choose would have caught."""
    if sample:
        refuse_given(context, ("files", "product"), "the made traffic of --sample is replayed; leave one of both out")
    else:
        refuse_given(context, ("kind", "probes", "days", "seed"), "it is of the made traffic; give --sample")
    if picture:
        require_suffix(picture, (".svg",), "--chart")
        refuse_overwriting(picture, files or [], "--chart")
    if files or sample:
        shape = Shape(kind=kind, probes=probes, days=days)
        counts = read_counts(files, product) if files else generate_traffic(shape, FIRST_DAY, seed).counts()
        found = _replayed(counts, nights, _budgets(budgets))
    else:
        refuse_unknown(url, token, product)
        asked = {"nights": nights, "budgets": budgets} | ({"product": product} if product else {})
        answer = send(url, token, "GET", f"/v1/hotlist/backtest?{urlencode(asked)}")
        found = msgspec.json.decode(answer, type=Backtest)
    if picture:
        with written_whole(picture) as file:
            file.write(chart(found))
    _show(found, chosen_format(form))


def sample_traffic_command(
    days: Days = 180,
    probes: Annotated[int, typer.Option(min=1, max=100_000, help="that there are")] = 2_000,
    people: Annotated[int, typer.Option(min=1, max=100_000, help="who view them")] = 300,
    looks: Annotated[float, typer.Option(min=0.01, max=1_000, help="a person and working day")] = 4.0,
    kind: Annotated[Kind, typer.Option(help="what moves people's interest")] = "mixed",
    product: Annotated[str, typer.Option(help="of all events")] = "fog",
    first: Annotated[
        datetime | None,
        typer.Option(parser=read_time, metavar="DAY", help="of all; else it ends yesterday"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="equal seeds make equal traffic")] = SEED,
) -> None:
    """Print made traffic as events, one a line, for `usage-service import`. The same options print the same."""
    day = (first or datetime.now(UTC) - timedelta(days=days)).astimezone(UTC).date()
    shape = Shape(days=days, probes=probes, people=people, views=looks, product=product, kind=kind)
    write, encode = sys.stdout.buffer.write, msgspec.json.encode
    for event in generate_traffic(shape, day, seed).events():
        write(encode(event) + b"\n")
    sys.stdout.flush()


def _replayed(counts: DayCounts, nights: int, budgets: list[int]) -> Backtest:
    with progress("replaying nights", max(0, min(nights, counts.days - 1))) as report:
        return backtest(counts, nights, budgets, report)


def _budgets(given: str) -> list[int]:
    try:
        budgets = sorted({int(one) for one in given.split(",")})
    except ValueError:
        budgets = []
    if not budgets or budgets[0] < 1:
        raise typer.BadParameter(f"{given}: give numbers from 1, such as 100,500", param_hint="--budgets")
    return budgets


def _show(found: Backtest, form: Format) -> None:
    if form == "json":
        show_json(found)
    elif form == "csv":
        columns = [str(budget) for budget in found.budgets]
        rows = [_line(one) for one in found.policies]
        rows.append(["expected_of_hot_list", *map(_share, found.expected), "", ""])
        rows.append(["best_single_rule", *(_share(one.caught) for one in found.hindsight), "", ""])
        rows.append(["unviewed_of_hot_list", *map(_share, found.unviewed), "", ""])
        show_csv(["policy", *columns, "all", "size"], rows)
    else:
        tell(f"Requests caught in percent, {found.nights} nights up to {found.last_day}, {found.requests:,} requests")
        show_table(_columns(found))
        tell(EXPLANATION)


def _line(one: PolicyResult) -> list[str]:
    return [one.policy, *map(_share, [*one.caught, one.caught_by_all]), f"{one.size:.0f}"]


def _share(share: float) -> str:
    return f"{share:.4f}"


def _columns(found: Backtest) -> list[Column]:
    rows = [
        [one.policy, *marked_shares(one), f"{100 * one.caught_by_all:.1f}", f"{one.size:,.0f}"]
        for one in found.policies
    ]
    for name, shares in (
        ("(expected)", found.expected),
        ("(never viewed)", found.unviewed),
        ("(best single rule)", [one.caught for one in found.hindsight]),
    ):
        rows.append([name, *(f"{100 * share:.1f}" for share in shares), "", ""])
    names = ["policy", *(f"{budget:,}" for budget in found.budgets), "all", "probes"]
    cells = zip(*rows, strict=True)
    return [Column(name, column, name != "policy") for name, column in zip(names, cells, strict=True)]
