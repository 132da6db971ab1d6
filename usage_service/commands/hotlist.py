"""`usage-service hotlist`: the probes to build, and the rules of operators."""

from __future__ import annotations

import sys
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from usage_service.commands.options import DEFAULT_URL, Token, Url
from usage_service.hotlist.budgets import Account
from usage_service.hotlist.listing import HotList
from usage_service.hotlist.rules import Rule
from usage_service.shared.remote import send

Product = Annotated[str | None, typer.Option(help="of this product only")]
Channel = Annotated[str, typer.Option(help="that it was built for")]
Form = Annotated[
    Literal["table", "csv", "json", "lines"] | None, typer.Option("--format", help="a table on a terminal, else csv")
]
Reason = Annotated[str, typer.Option(help="why, for those who come after")]
OfProduct = Annotated[str, typer.Argument(help="such as fog")]
OfProbe = Annotated[str, typer.Argument(help="such as gc_ms")]
OfPattern = Annotated[str, typer.Argument(help="such as *search_counts*; a dot is an underscore")]
MOST_REPORTED = 10_000

hotlist_app = typer.Typer(invoke_without_command=True, help="Which probes to build; pin or exclude some.")


@hotlist_app.callback()
def list_command(
    context: typer.Context,
    product: Product = None,
    budget: Annotated[
        str | None, typer.Option(help="how many probes at most, or 500GB, 2.50USD, auto; 100 unless --coverage")
    ] = None,
    coverage: Annotated[float | None, typer.Option(help="the share of the next requests to be caught")] = None,
    run: Annotated[str | None, typer.Option(help="keep the list under this name, or show the one that is kept")] = None,
    form: Form = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show the probes that will most likely be viewed next, with the reasons."""
    if context.invoked_subcommand is not None:
        return
    chosen = form or ("table" if sys.stdout.isatty() else "csv")
    asked = "json" if chosen == "table" else chosen
    wanted = {"product": product, "budget": budget, "coverage": coverage}
    given = {name: value for name, value in wanted.items() if value is not None}
    if run is not None:
        send(url, token, "POST", "/v1/hotlist", {"run": run} | given)
        body = send(url, token, "GET", f"/v1/hotlist/{quote(run)}?format={asked}")
    else:
        body = send(url, token, "GET", f"/v1/hotlist?{urlencode(given | {'format': asked})}")
    if chosen == "table":
        Console().print(_table(msgspec.json.decode(body, type=HotList)))
    else:
        sys.stdout.write(body.decode() + ("\n" if chosen == "json" else ""))


@hotlist_app.command("pin")
def pin_command(
    product: OfProduct, probe: OfProbe, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Keep a probe on the list, whatever its score."""
    _set(product, probe, "pinned", reason, url, token)


@hotlist_app.command("exclude")
def exclude_command(
    product: OfProduct, probe: OfProbe, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Keep a probe from being listed or built."""
    _set(product, probe, "excluded", reason, url, token)


@hotlist_app.command("unpin")
@hotlist_app.command("include")
def lift_command(product: OfProduct, probe: OfProbe, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Lift a rule of a probe."""
    send(url, token, "DELETE", _place(product, probe))
    Console().print(f"{product} {probe}: judged by its score again", highlight=False)


@hotlist_app.command("rules")
def rules_command(product: Product = None, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show what is pinned and excluded, as JSON."""
    sys.stdout.write(send(url, token, "GET", f"/v1/hotlist/rules{_of(product)}").decode() + "\n")


@hotlist_app.command("hide")
def hide_command(
    pattern: OfPattern, product: Product = None, reason: Reason = "", url: Url = DEFAULT_URL, token: Token = None
) -> None:
    """Hide the probes that a pattern names: they are neither built nor listed."""
    send(url, token, "PUT", _hidden(pattern, product), {"reason": reason})
    Console().print(f"{pattern} of {product or 'every product'}: hidden", highlight=False)


@hotlist_app.command("show")
def show_command(pattern: OfPattern, product: Product = None, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Lift a pattern that hides probes."""
    send(url, token, "DELETE", _hidden(pattern, product))
    Console().print(f"{pattern} of {product or 'every product'}: shown again", highlight=False)


@hotlist_app.command("hidden")
def hidden_command(product: Product = None, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show the patterns that hide probes, as JSON."""
    sys.stdout.write(send(url, token, "GET", f"/v1/hidden{_of(product)}").decode() + "\n")


@hotlist_app.command("built")
def built_command(
    product: OfProduct,
    channel: Channel,
    built_at: Annotated[str, typer.Option(metavar="TIME", help="when the ETL was through with them")],
    file: Annotated[typer.FileText, typer.Argument(help="names, one a line; - is standard input")],
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Report the probes that the ETL has built; reporting them again changes nothing."""
    probes = file.read().split()
    for begin in range(0, len(probes), MOST_REPORTED):
        report = {"product": product, "channel": channel, "built_at": built_at}
        answer = send(
            url, token, "POST", "/v1/hotlist/built", report | {"probes": probes[begin : begin + MOST_REPORTED]}
        )
        sys.stdout.write(answer.decode() + "\n")


def _set(product: str, probe: str, rule: Rule, reason: str, url: str, token: str | None) -> None:
    send(url, token, "PUT", _place(product, probe), {"rule": rule, "reason": reason})
    Console().print(f"{product} {probe}: {rule}", highlight=False)


def _of(product: str | None) -> str:
    return f"?product={quote(product)}" if product else ""


def _hidden(pattern: str, product: str | None) -> str:
    return f"/v1/hidden/{quote(pattern, safe='')}{_of(product)}"


def _place(product: str, probe: str) -> str:
    return f"/v1/hotlist/rules/{quote(product, safe='')}/{quote(probe, safe='')}"


def _table(made: HotList) -> Table:
    share = f"expected to catch {made.expected_coverage:.1%} of the requests"
    title = f"{len(made.probes):,} probes for {made.for_day:%A %Y-%m-%d}, {share}"
    table = Table(title=title, caption=_caption(made.account), box=None)
    table.add_column("product")
    table.add_column("probe", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("why", overflow="fold")
    for hot in made.probes:
        why = "; ".join(f"{reason.text} ({reason.value:+.2f})" for reason in hot.reasons)
        table.add_row(hot.product, hot.probe, f"{hot.score:,.2f}", why)
    return table


def _caption(account: Account | None) -> str | None:
    """Return what the list costs and saves, and why it ends, in a line."""
    if account is None:
        return None
    told = [f"a night reads {account.bytes:,} bytes ({account.cost:.3g} USD)"] if account.bytes is not None else []
    told += [f"people still wait for {account.minutes:,.1f} minutes"] if account.minutes is not None else []
    return "; ".join([*told, account.ends])
