"""`usage-service hotlist`: the probes to build, and the rules of operators."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

import msgspec
import typer

from usage_service.commands.asking import ask_rows, refuse_unknown_probe
from usage_service.commands.times import read_time
from usage_service.hotlist.budgets import Account
from usage_service.hotlist.listing import HotList
from usage_service.hotlist.rules import Rule
from usage_service.shared.errors import UserError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.names_file import read_names
from usage_service.shared.options import DEFAULT_URL, Product, Token, Url, refuse_misplaced
from usage_service.shared.remote import RemoteError, ask, send
from usage_service.shared.table_layout import Column
from usage_service.shared.tables import FormatOption, chosen_format, show, show_table, tell, visible
from usage_service.shared.unknown_names import refuse_unknown

Channel = Annotated[str, typer.Option(help="that it was built for")]
Form = Annotated[
    Literal["table", "csv", "json", "lines"] | None,
    typer.Option(
        "--format",
        show_default="table on a terminal, csv in a pipe",
        help="how to print: csv has a line of names, json is one document, lines are names of probes",
    ),
]
Reason = Annotated[str, typer.Option(help="why, for those who come after")]
OfProduct = Annotated[str, typer.Argument(help="such as fog")]
OfProbe = Annotated[str, typer.Argument(help="such as gc_ms")]
OfPattern = Annotated[str, typer.Argument(help="such as *search_counts*; a dot is an underscore")]
MOST_REPORTED = 10_000
SHOWN = 20  # of the names that the catalogue does not have
RULE_COLUMNS = ("product", "probe", "rule", "reason", "source", "since")
PATTERN_COLUMNS = ("pattern", "product", "reason", "source")


class KeptRuleError(UserError):
    """The rule of a probe is not the one that is to be lifted."""


hotlist_app = typer.Typer(invoke_without_command=True, help="Which probes to build; pin or exclude some.")


@hotlist_app.callback()
def list_command(
    context: typer.Context,
    product: Product = None,
    budget: Annotated[
        str | None, typer.Option(help="how many probes at most, or 500GB, 2.50USD, auto; 100 unless --coverage")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(max=1, help="the share of the next requests to be caught, such as 0.95")
    ] = None,
    run: Annotated[str | None, typer.Option(help="keep the list under this name, or show the one that is kept")] = None,
    form: Form = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the probes that will most likely be viewed next, with the reasons."""
    if context.invoked_subcommand is not None:
        refuse_misplaced(context)
        return
    chosen = form if form == "lines" else chosen_format(form)
    asked = "json" if chosen == "table" else chosen
    wanted = {"product": product, "budget": budget, "coverage": coverage}
    given = {name: value for name, value in wanted.items() if value is not None}
    refuse_unknown(url, token, product)
    if run is not None:
        body = _of_run(url, token, run, given, asked)
    else:
        body = send(url, token, "GET", f"/v1/hotlist?{urlencode(given | {'format': asked})}")
    if chosen == "table":
        _show(msgspec.json.decode(body, type=HotList))
    else:
        sys.stdout.write(body.decode() + ("\n" if chosen == "json" else ""))


@hotlist_app.command("pin")
def pin_command(
    product: OfProduct, probe: OfProbe, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Keep a probe on the list, whatever its score."""
    refuse_unknown_probe(url, token, product, probe)
    _set(product, probe, "pinned", reason, url, token)


@hotlist_app.command("exclude")
def exclude_command(
    product: OfProduct, probe: OfProbe, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Keep a probe from being listed or built."""
    refuse_unknown_probe(url, token, product, probe)
    _set(product, probe, "excluded", reason, url, token)


@hotlist_app.command("unpin")
def unpin_command(product: OfProduct, probe: OfProbe, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Keep a probe on the list no more whatever its score; one that is excluded stays so."""
    _lift(product, probe, "excluded", "hotlist include", url, token)


@hotlist_app.command("include")
def include_command(product: OfProduct, probe: OfProbe, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Let a probe that is excluded be listed and built again; one that is pinned stays so."""
    _lift(product, probe, "pinned", "hotlist unpin", url, token)


@hotlist_app.command("rules")
def rules_command(
    product: Product = None, form: FormatOption = None, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Show what is pinned and excluded."""
    show(ask_rows(url, token, "/v1/hotlist/rules", "rules", product=product)["rules"], RULE_COLUMNS, form)


@hotlist_app.command("hide")
def hide_command(
    pattern: OfPattern, product: Product = None, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Hide the probes that a pattern names: they are neither built nor listed."""
    refuse_unknown(url, token, product)
    send(url, token, "PUT", _hidden(pattern, product), {"reason": reason})
    tell(f"{pattern} of {product or 'every product'}: hidden")


@hotlist_app.command("show")
def show_command(pattern: OfPattern, product: Product = None, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Lift a pattern that hides probes."""
    send(url, token, "DELETE", _hidden(pattern, product))
    tell(f"{pattern} of {product or 'every product'}: shown again")


@hotlist_app.command("hidden")
def hidden_command(
    product: Product = None, form: FormatOption = None, url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Show the patterns that hide probes."""
    show(ask(url, token, "/v1/hidden", product=product)["patterns"], PATTERN_COLUMNS, form)


@hotlist_app.command("built")
def built_command(
    product: OfProduct,
    channel: Channel,
    built_at: Annotated[
        datetime, typer.Option(parser=read_time, metavar="TIME", help="a day or an instant: when the ETL was through")
    ],
    file: Annotated[Path, typer.Argument(help="names, one a line; - is standard input")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Report the probes that the ETL has built; reporting them again changes nothing.

    Names that the catalogue does not have are left out, and told; exit code 1 then.
    """
    probes = read_names(file)
    left_out: list[str] = []
    for begin in range(0, len(probes), MOST_REPORTED):
        report = {"product": product, "channel": channel, "built_at": built_at}
        answer = send(
            url, token, "POST", "/v1/hotlist/built", report | {"probes": probes[begin : begin + MOST_REPORTED]}
        )
        sys.stdout.write(answer.decode() + "\n")
        left_out += msgspec.json.decode(answer)["unknown"]
    if left_out:
        names = [*left_out[:SHOWN], *([f"and {len(left_out) - SHOWN:,} more"] if len(left_out) > SHOWN else [])]
        tell(f"left out, as the catalogue of {product} does not have them: {', '.join(names)}", err=True)
        raise typer.Exit(ExitCode.WRONG)


def _of_run(url: str, token: str | None, run: str, given: Mapping[str, object], form: str) -> bytes:
    """Return the list of a run, which is made where there is none; what is not given is as the run has it."""
    place = f"/v1/hotlist/{quote(run)}"
    try:
        send(url, token, "POST", "/v1/hotlist", {"run": run, **given})
    except RemoteError as error:
        if error.status != 409:  # it has another list already
            raise
        kept = msgspec.json.decode(send(url, token, "GET", place))
        if any(str(kept[name]) != str(value) for name, value in given.items()):
            raise
    return send(url, token, "GET", f"{place}?format={form}")


def _set(product: str, probe: str, rule: Rule, reason: str, url: str, token: str | None) -> None:
    send(url, token, "PUT", _place(product, probe), {"rule": rule, "reason": reason})
    tell(f"{product} {probe}: {rule}")


def _lift(product: str, probe: str, other: Rule, command: str, url: str, token: str | None) -> None:
    """Lift the rule of a probe; raise KeptRuleError where it has the other one, which another command lifts."""
    rules = ask(url, token, "/v1/hotlist/rules", product=product)["rules"]
    if any(one["probe"] == probe and one["rule"] == other for one in rules):
        raise KeptRuleError(f"{probe} of {product} is {other}, and stays so; `{command}` lifts that")
    send(url, token, "DELETE", _place(product, probe))
    tell(f"{product} {probe}: judged by its score again")


def _of(product: str | None) -> str:
    return f"?product={quote(product)}" if product else ""


def _hidden(pattern: str, product: str | None) -> str:
    return f"/v1/hidden/{quote(pattern, safe='')}{_of(product)}"


def _place(product: str, probe: str) -> str:
    return f"/v1/hotlist/rules/{quote(product, safe='')}/{quote(probe, safe='')}"


def _show(made: HotList) -> None:
    """Print a list with what it is expected to catch, what it costs, and why each probe is on it."""
    share = f"expected to catch {made.expected_coverage:.1%} of the requests"
    tell(f"{len(made.probes):,} probes for {made.for_day:%A %Y-%m-%d}, {share}")
    whys = ["; ".join(f"{reason.text} ({reason.value:+.2f})" for reason in hot.reasons) for hot in made.probes]
    show_table(
        [
            Column("product", [hot.product for hot in made.probes]),
            Column("probe", [hot.probe for hot in made.probes]),
            Column("score", [f"{hot.score:,.2f}" for hot in made.probes], is_number=True),
            Column("why", [visible(why) for why in whys]),
        ]
    )
    if caption := _caption(made.account):
        tell(caption)


def _caption(account: Account | None) -> str | None:
    """Return what the list costs and saves, and why it ends, in a line."""
    if account is None:
        return None
    told = [f"a night reads {account.bytes:,} bytes ({account.cost:.3g} USD)"] if account.bytes is not None else []
    told += [f"people still wait for {account.minutes:,.1f} minutes"] if account.minutes is not None else []
    return "; ".join([*told, account.ends])
