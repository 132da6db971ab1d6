"""Functions of dates and timestamps; everything is in UTC, other time zones are refused."""

from __future__ import annotations

import re

from sqlglot import exp

from warehouse.errors import refused
from warehouse.translation.context import Context, handles
from warehouse.translation.conversions import convert, no_signature
from warehouse.translation.syntax import function_name, literal_text
from warehouse.translation.value import DATE, DATETIME, INT64, STRING, TIMESTAMP, Value, call, cast

MICROSECONDS = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
}
DATE_UNITS = {"DAY": "to_days", "WEEK": "to_weeks", "MONTH": "to_months", "YEAR": "to_years"}
BOUNDARIES = {"DAY", "MONTH", "QUARTER", "YEAR"}
TRUNCATIONS = {"MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "QUARTER", "YEAR"}
EXTRACTS = {"YEAR", "QUARTER", "MONTH", "DAY", "DAYOFYEAR", "HOUR", "MINUTE"}
FORMAT_ELEMENTS = re.compile(r"(%[YmdHMSj]|[^%])*")


@handles(exp.Date, parts="this zone")
@handles(exp.Timestamp, parts="this zone with_tz")
def _convert(context: Context, node: exp.Expr) -> Value:
    _only_utc(node)
    wanted = DATE if isinstance(node, exp.Date) else TIMESTAMP
    value = context.value(node.this)
    if value.type.name not in ("STRING", "DATE", "TIMESTAMP", "DATETIME", "NULL"):
        raise no_signature(f"function {wanted.name}", [value])
    return convert(value, wanted)


@handles(exp.DateFromParts, parts="year month day")
def _date_from_parts(context: Context, node: exp.Expr) -> Value:
    parts = [context.typed(node.args[key], INT64, "function DATE").sql for key in ("year", "month", "day")]
    return Value(call("make_date", *parts), DATE)


@handles(exp.CurrentTimestamp, parts="")
@handles(exp.CurrentDate, parts="this")
def _now(_: Context, node: exp.Expr) -> Value:
    _only_utc(node, "this")
    kind = DATE if isinstance(node, exp.CurrentDate) else TIMESTAMP
    return Value(cast(call("get_current_timestamp"), kind), kind)


@handles(exp.TimestampAdd, exp.TimestampSub, parts="this expression unit")
def _timestamp_add(context: Context, node: exp.Expr) -> Value:
    unit = _unit(node, MICROSECONDS)
    value = context.typed(node.this, TIMESTAMP, function_name(node)).sql
    amount = _amount(context, node.expression)
    micros = exp.Mul(this=amount, expression=cast(exp.Literal.number(MICROSECONDS[unit]), INT64))
    sign = exp.Add if isinstance(node, exp.TimestampAdd) else exp.Sub
    return Value(exp.Paren(this=sign(this=value, expression=call("to_microseconds", micros))), TIMESTAMP)


@handles(exp.DateAdd, exp.DateSub, parts="this expression unit")
def _date_add(context: Context, node: exp.Expr) -> Value:
    unit = _unit(node, DATE_UNITS)
    value = context.typed(node.this, DATE, function_name(node)).sql
    amount = exp.Cast(this=_amount(context, node.expression), to=exp.DataType.build("INT"))
    sign = exp.Add if isinstance(node, exp.DateAdd) else exp.Sub
    return Value(cast(sign(this=value, expression=call(DATE_UNITS[unit], amount)), DATE), DATE)


@handles(exp.TimestampDiff, parts="this expression unit")
def _timestamp_diff(context: Context, node: exp.Expr) -> Value:
    unit = exp.Literal.number(MICROSECONDS[_unit(node, MICROSECONDS)])
    pair = [context.typed(node.args[k], TIMESTAMP, "function TIMESTAMP_DIFF").sql for k in ("this", "expression")]
    return Value(call("bq_timestamp_diff", *pair, unit), INT64)


@handles(exp.DateDiff, parts="this expression unit date_part_boundary")
def _date_diff(context: Context, node: exp.Expr) -> Value:
    unit = _unit(node, BOUNDARIES)
    end, start = (context.typed(node.args[k], DATE, "function DATE_DIFF").sql for k in ("this", "expression"))
    return Value(call("date_diff", exp.Literal.string(unit.lower()), start, end), INT64)


@handles(exp.TimestampTrunc, exp.DateTrunc, parts="this unit zone")
def _truncate(context: Context, node: exp.Expr) -> Value:
    _only_utc(node)
    kind = TIMESTAMP if isinstance(node, exp.TimestampTrunc) else DATE
    unit = _unit(node, TRUNCATIONS if kind == TIMESTAMP else BOUNDARIES)
    value = context.typed(node.this, kind, function_name(node)).sql
    return Value(cast(call("date_trunc", exp.Literal.string(unit.lower()), value), kind), kind)


@handles(exp.Extract)
def _extract(context: Context, node: exp.Expr) -> Value:
    value = context.value(node.expression)
    unit = node.this.name.upper()
    if value.type not in (DATE, TIMESTAMP, DATETIME):
        raise no_signature("function EXTRACT", [value])
    if unit == "DATE":
        return convert(value, DATE)
    if unit == "DAYOFWEEK":
        # DuckDB counts from Sunday = 0, BigQuery from Sunday = 1.
        sunday_first = exp.Add(this=call("dayofweek", value.sql), expression=exp.Literal.number(1))
        return Value(exp.Paren(this=sunday_first), INT64)
    if unit not in EXTRACTS or (value.type == DATE and unit in ("HOUR", "MINUTE")):
        raise refused(f"EXTRACT of {unit}")
    return Value(call("date_part", exp.Literal.string(unit.lower()), value.sql), INT64)


@handles(exp.TimeToStr, parts="this format zone")
def _format(context: Context, node: exp.Expr) -> Value:
    _only_utc(node)
    of_date = isinstance(node.this, exp.TsOrDsToDate)
    value = context.typed(node.this.this, DATE if of_date else TIMESTAMP, "function FORMAT_TIMESTAMP")
    plain = cast(value.sql, DATETIME)
    return Value(call("strftime", plain, exp.Literal.string(_format_text(node))), STRING)


@handles(exp.StrToTime, exp.StrToDate, parts="this format default_year zone")
def _parse(context: Context, node: exp.Expr) -> Value:
    return _parsed(context, node, "bq_parse")


@handles(exp.SafeFunc, parts="this")
def _safe(context: Context, node: exp.Expr) -> Value:
    if not isinstance(node.this, exp.StrToTime | exp.StrToDate):
        raise refused("the SAFE. prefix of this function")
    return _parsed(context, node.this, "bq_safe_parse")


def _parsed(context: Context, node: exp.Expr, prefix: str) -> Value:
    _only_utc(node)
    kind = TIMESTAMP if isinstance(node, exp.StrToTime) else DATE
    text = context.typed(node.this, STRING, f"function PARSE_{kind.name}").sql
    pattern = exp.Literal.string(_format_text(node))
    return Value(call(f"{prefix}_{kind.name.lower()}", text, pattern), kind)


@handles(exp.UnixToTime, parts="this scale")
def _from_unix(context: Context, node: exp.Expr) -> Value:
    scale = {0: "SECOND", 3: "MILLISECOND", 6: "MICROSECOND"}[
        int(node.args["scale"].this) if node.args.get("scale") else 0
    ]
    count = context.typed(node.this, INT64, "function TIMESTAMP_MICROS").sql
    micros = exp.Mul(this=count, expression=cast(exp.Literal.number(MICROSECONDS[scale]), INT64))
    return Value(cast(call("make_timestamp", micros), TIMESTAMP), TIMESTAMP)


@handles(exp.UnixMicros, parts="this")
def _unix_micros(context: Context, node: exp.Expr) -> Value:
    return Value(call("epoch_us", context.typed(node.this, TIMESTAMP, "function UNIX_MICROS").sql), INT64)


@handles(exp.UnixSeconds, parts="this")
def _unix_seconds(context: Context, node: exp.Expr) -> Value:
    micros = call("epoch_us", context.typed(node.this, TIMESTAMP, "function UNIX_SECONDS").sql)
    return Value(call("bq_floor_divide", micros, exp.Literal.number(MICROSECONDS["SECOND"])), INT64)


@handles(exp.UnixDate, parts="this")
def _unix_date(context: Context, node: exp.Expr) -> Value:
    epoch = cast(exp.Literal.string("1970-01-01"), DATE)
    value = context.typed(node.this, DATE, "function UNIX_DATE").sql
    return Value(call("date_diff", exp.Literal.string("day"), epoch, value), INT64)


def _amount(context: Context, node: exp.Expr) -> exp.Expr:
    # sqlglot keeps INTERVAL 3 DAY and INTERVAL '3' DAY alike as a string.
    if isinstance(node, exp.Literal) and re.fullmatch(r"-?\d+", str(node.this)):
        return cast(exp.Literal.number(str(node.this)), INT64)
    return context.typed(node, INT64, "INTERVAL").sql


def _unit(node: exp.Expr, allowed: dict[str, object] | dict[str, int] | dict[str, str] | set[str]) -> str:
    unit = node.args.get("unit")
    name = unit.name.upper() if isinstance(unit, exp.Var | exp.Literal) else str(unit)
    if name not in allowed:
        raise refused(f"the date part {name}")
    return name


def _only_utc(node: exp.Expr, key: str = "zone") -> None:
    zone = node.args.get(key)
    if zone and literal_text(zone, "a time zone").upper() not in ("UTC", "+00:00", "ETC/UTC"):
        raise refused(f"the time zone {zone.this}")


def _format_text(node: exp.Expr) -> str:
    text = literal_text(node.args.get("format"), "a format")
    if not FORMAT_ELEMENTS.fullmatch(text):
        raise refused(f"the format {text}")
    return text
