"""Datasets and tables in BigQuery's REST API: made, told of, listed, read and deleted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from warehouse.api.answers import ENGINE, JOBS, answer_json
from warehouse.api.requests import number_argument, read_json, table_name
from warehouse.api.wire import (
    Row,
    dataset_resource,
    encode_rows,
    listed_table,
    page_token,
    read_page_token,
    table_resource,
)
from warehouse.catalogue import relation_name
from warehouse.definitions import TableName, as_object, described, fields_of, invalid, read_definition, read_fields
from warehouse.errors import invalid_query
from warehouse.schema import Type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warehouse.catalogue import Table
    from warehouse.definitions import Definition, Resource
    from warehouse.engine import Engine

DATASETS = "/bigquery/v2/projects/{project}/datasets"
TABLES = f"{DATASETS}/{{dataset}}/tables"
MAX_LISTED, MAX_PAGE_ROWS = 1_000, 20_000
Item = TypeVar("Item")
KEPT_OF_DATASETS = ("description", "friendlyName", "labels")


async def insert_dataset(request: web.Request) -> web.Response:
    """Answer POST datasets: make a dataset."""
    body = await read_json(request)
    reference = as_object(body, "datasetReference")
    name = table_name(reference | {"projectId": request.match_info["project"], "tableId": "any"})
    said = {key: body[key] for key in KEPT_OF_DATASETS if body.get(key)}
    if body.get("defaultTableExpirationMs") or body.get("defaultPartitionExpirationMs"):
        raise invalid("The embedded warehouse does not support expirations of a dataset's tables")
    await request.app[JOBS].change(lambda change: change.create_dataset(name[0], name[1], said))
    return answer_json(dataset_resource(name[0], name[1], said))


async def get_dataset(request: web.Request) -> web.Response:
    """Answer GET datasets/{id}: the dataset."""
    project, dataset = request.match_info["project"], request.match_info["dataset"]
    return answer_json(dataset_resource(project, dataset, request.app[ENGINE].catalogue.dataset(project, dataset)))


async def list_datasets(request: web.Request) -> web.Response:
    """Answer GET datasets: a page of the project's datasets, by name."""
    project, catalogue = request.match_info["project"], request.app[ENGINE].catalogue
    names, more = _page(request, catalogue.datasets(project))
    found = [dataset_resource(project, name, catalogue.dataset(project, name)) for name in names]
    return answer_json({"kind": "bigquery#datasetList", "datasets": found} | more)


async def delete_dataset(request: web.Request) -> web.Response:
    """Answer DELETE datasets/{id}: drop the dataset, with its tables when the request says so."""
    project, dataset = request.match_info["project"], request.match_info["dataset"]
    with_tables = request.query.get("deleteContents", "").lower() == "true"
    await request.app[JOBS].change(lambda change: change.drop_dataset(project, dataset, with_tables=with_tables))
    return web.Response(status=204)


async def insert_table(request: web.Request) -> web.Response:
    """Answer POST tables: make an empty table."""
    body = await read_json(request)
    place = {"projectId": request.match_info["project"], "datasetId": request.match_info["dataset"]}
    name = table_name(as_object(body, "tableReference") | place)
    if others := [key for key in UNSUPPORTED if body.get(key)]:
        raise invalid(f"The embedded warehouse does not support {others[0]} of tables", others[0])
    engine, definition = request.app[ENGINE], read_definition(body)
    if definition.view:
        if definition.fields:
            raise invalid("Schema field shouldn't be used as input with a view", "schema")
        definition = await asyncio.to_thread(_view, engine, name, definition, [])
    await request.app[JOBS].change(lambda change: change.create_new(name, definition))
    return answer_json(await asyncio.to_thread(_described, engine, name))


def _view(engine: Engine, name: TableName, definition: Definition, wanted: list[Resource]) -> Definition:
    """Return the definition of a view with the fields of its query; raise BigQueryError for a query that is wrong."""
    translation = engine.plan(definition.view, name[0], {}).translation
    if any(view.name == name for view in translation.views):
        raise invalid_query(f"The view {name} is referenced recursively")
    fields = fields_of(Type("STRUCT", fields=dict(translation.columns)))
    return replace(definition, fields=described(fields, wanted))


async def update_table(request: web.Request) -> web.Response:
    """Answer PATCH tables/{id}: change the query of a view, or what is said of it and its columns."""
    body, name, engine = await read_json(request), _name(request), request.app[ENGINE]
    found = engine.catalogue.find(*name).definition
    if not found.view or (others := sorted(body.keys() - CHANGEABLE)):
        what = others[0] if found.view else f"changes of {name}, which is no view"
        raise invalid(f"The embedded warehouse does not support {what} in an update")
    told = found.resource() | {key: body[key] for key in ("view", "description") if key in body}
    kept = [] if "view" in body else found.fields
    wanted = read_fields(as_object(body, "schema").get("fields") or []) if "schema" in body else kept
    view = await asyncio.to_thread(_view, engine, name, read_definition(told), wanted)
    await request.app[JOBS].change(lambda change: change.put_view(name, view))
    return answer_json(await asyncio.to_thread(_described, engine, name))


CHANGEABLE = {"view", "description", "schema", "tableReference"}
UNSUPPORTED = ("materializedView", "externalDataConfiguration", "rangePartitioning", "encryptionConfiguration")


def _described(engine: Engine, name: TableName) -> Resource:
    table = engine.catalogue.find(*name)
    if table.definition.view:
        return table_resource(table, 0, 0)
    with engine.cursor() as cursor:
        rows = engine.count(cursor, table)
        sizes = engine.sizes(cursor, table)
    return table_resource(table, rows, sizes.bytes(set(sizes.leaf_bytes), set(sizes.days)))


def _name(request: web.Request) -> TableName:
    return TableName(*(request.match_info[part] for part in ("project", "dataset", "table")))


async def get_table(request: web.Request) -> web.Response:
    """Answer GET tables/{id}: the table's definition, and how large it is."""
    return answer_json(await asyncio.to_thread(_described, request.app[ENGINE], _name(request)))


async def list_tables(request: web.Request) -> web.Response:
    """Answer GET tables: a page of the dataset's tables, by name."""
    project, dataset, catalogue = (
        request.match_info["project"],
        request.match_info["dataset"],
        request.app[ENGINE].catalogue,
    )
    catalogue.dataset(project, dataset)
    tables = catalogue.tables(project, dataset)
    found, more = _page(request, tables)
    content = {"tables": [listed_table(table) for table in found], "totalItems": len(tables)}
    return answer_json({"kind": "bigquery#tableList"} | content | more)


def _page(request: web.Request, items: Sequence[Item]) -> tuple[Sequence[Item], dict[str, str]]:
    token = request.query.get("pageToken")
    first = read_page_token(token) if token else 0
    end = first + min(number_argument(request.query, "maxResults", MAX_LISTED), MAX_LISTED)
    return items[first:end], {"nextPageToken": page_token(end)} if first < end < len(items) else {}


async def delete_table(request: web.Request) -> web.Response:
    """Answer DELETE tables/{id}: drop the table."""
    name = _name(request)
    await request.app[JOBS].change(lambda change: change.drop(name))
    return web.Response(status=204)


async def read_rows(request: web.Request) -> web.Response:
    """Answer GET tables/{id}/data: a page of the table's rows."""
    engine, name = request.app[ENGINE], _name(request)
    table = engine.catalogue.find(*name)
    if table.definition.view:
        raise invalid(f"Cannot list a table of type VIEW: query {name} instead")
    token = request.query.get("pageToken")
    first = read_page_token(token) if token else number_argument(request.query, "startIndex", 0)
    count = min(number_argument(request.query, "maxResults", MAX_PAGE_ROWS), MAX_PAGE_ROWS)
    int64 = request.query.get("formatOptions.useInt64Timestamp", "").lower() == "true"
    total, rows = await asyncio.to_thread(_rows, engine, table, first, count, int64)
    more = {"pageToken": page_token(first + count)} if 0 < count < total - first else {}
    return answer_json({"kind": "bigquery#tableDataList", "totalRows": str(total), "rows": rows} | more)


def _rows(engine: Engine, table: Table, first: int, count: int, int64: bool) -> tuple[int, list[Row]]:
    columns = list(table.schema.fields.items())
    with engine.cursor() as cursor:
        cursor.begin()
        total = engine.count(cursor, table)
        relation = cursor.table(relation_name(table.database, table.name))
        rows = relation.limit(count, offset=first).fetchall() if count else []
    return total, encode_rows(columns, rows, int64_timestamps=int64)


ROUTES = [
    web.post(DATASETS, insert_dataset),
    web.get(DATASETS, list_datasets),
    web.get(f"{DATASETS}/{{dataset}}", get_dataset),
    web.delete(f"{DATASETS}/{{dataset}}", delete_dataset),
    web.post(TABLES, insert_table),
    web.get(TABLES, list_tables),
    web.get(f"{TABLES}/{{table}}", get_table),
    web.patch(f"{TABLES}/{{table}}", update_table),
    web.delete(f"{TABLES}/{{table}}", delete_table),
    web.get(f"{TABLES}/{{table}}/data", read_rows),
]
