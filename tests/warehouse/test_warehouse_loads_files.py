"""Google's own client loads files into tables of the warehouse as into those of BigQuery: all of a file, or nothing."""

import datetime as dt
import gzip
from collections.abc import Iterator
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery import Client, LoadJob, SchemaField

from tests.support.warehouse_support import NEVER, SECONDS, rows
from tests.support.warehouse_tables import (
    JSON,
    content,
    load,
    loaded,
    make_table,
    ndjson,
    parquet,
    parquet_of,
    succeeded,
    writable,
)

TRUNCATE, APPEND, EMPTY = "WRITE_TRUNCATE", "WRITE_APPEND", "WRITE_EMPTY"
DAY, MOMENT = dt.date(2026, 11, 19), dt.datetime(2026, 11, 19, 10, 0, 0, 5, dt.UTC)
EVERY_TYPE = [
    SchemaField("i", "INTEGER", "REQUIRED"),
    SchemaField("f", "FLOAT"),
    SchemaField("s", "STRING"),
    SchemaField("b", "BOOLEAN"),
    SchemaField("d", "DATE"),
    SchemaField("t", "TIMESTAMP"),
    SchemaField("dt", "DATETIME"),
    SchemaField("y", "BYTES"),
    SchemaField("n", "NUMERIC"),
    SchemaField("bn", "BIGNUMERIC"),
    SchemaField("l", "STRING", "REPEATED"),
    SchemaField("r", "RECORD", "REPEATED", fields=[SchemaField("key", "STRING"), SchemaField("value", "INTEGER")]),
]
VALUES: dict[str, Any] = {
    "i": -(2**63),
    "f": 0.1,
    "s": "it's \u2028 ü",
    "b": False,
    "d": DAY,
    "t": MOMENT,
    "dt": MOMENT.replace(tzinfo=None),
    "y": b"\x00\xff",
    "n": Decimal("-12345678901234567890123456789.123456789"),
    "bn": Decimal(7),
    "l": ["a", "b"],
    "r": [{"key": "0", "value": 3}],
}
NOTHING = dict.fromkeys(VALUES) | {"i": 1, "l": [], "r": []}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with writable(tmp_path_factory.mktemp("loads")) as client:
        yield client


def test_every_type_arrives_as_itself_from_parquet(client: Client) -> None:
    types = {"n": pa.decimal128(38, 9), "bn": pa.decimal128(10, 0)}
    columns = {name: pa.array([value, NOTHING[name]], types.get(name)) for name, value in VALUES.items()}
    job = loaded(client, "types", parquet(columns), schema=EVERY_TYPE, parquet_options=_lists())
    assert content(client, "types") == sorted([tuple(VALUES.values()), tuple(NOTHING.values())], key=repr)
    assert (job.output_rows, job.input_files) == (2, 1)
    table = client.get_table("glam_etl.types", retry=NEVER, timeout=SECONDS)
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [
        (f.name, f.field_type, f.mode) for f in EVERY_TYPE
    ]
    assert (table.num_rows, table.num_bytes) == (2, job.output_bytes)


def _lists() -> bigquery.format_options.ParquetOptions:
    return bigquery.format_options.ParquetOptions.from_api_repr({"enableListInference": True})


def test_every_type_arrives_as_itself_from_lines_of_json(client: Client) -> None:
    row = VALUES | {"i": str(-(2**63)), "d": str(DAY), "t": "2026-11-19 10:00:00.000005 UTC", "y": "AP8="}
    row |= {"dt": "2026-11-19T10:00:00.000005", "n": str(VALUES["n"]), "bn": 7}
    job = client.load_table_from_json(
        [row, {"i": 1, "s": None}],
        "glam_etl.json_types",
        job_config=bigquery.LoadJobConfig(schema=EVERY_TYPE),
        timeout=SECONDS,
    )
    succeeded(job)
    assert content(client, "json_types") == sorted([tuple(VALUES.values()), tuple(NOTHING.values())], key=repr)
    assert job.output_bytes == client.get_table("glam_etl.json_types", retry=NEVER, timeout=SECONDS).num_bytes


def test_a_compressed_file_of_json_is_loaded(client: Client) -> None:
    file = BytesIO(gzip.compress(ndjson([{"a": 1}, {"a": 2}]).getvalue()))
    loaded(client, "compressed", file, source_format=JSON, schema=[SchemaField("a", "INTEGER")])
    assert content(client, "compressed") == [(1,), (2,)]


def test_dispositions_say_what_becomes_of_the_rows_before(client: Client) -> None:
    for disposition, wanted in ((EMPTY, [1]), (APPEND, [1, 2]), (TRUNCATE, [3])):
        loaded(client, "disposed", parquet({"a": [wanted[-1]]}), write_disposition=disposition)
        assert content(client, "disposed") == [(a,) for a in wanted]
    with pytest.raises(Conflict, match=r"Already Exists: Table .*disposed"):
        loaded(client, "disposed", parquet({"a": [4]}), write_disposition=EMPTY)
    loaded(client, "disposed", parquet({"b": ["x"]}), write_disposition=TRUNCATE)
    assert content(client, "disposed") == [("x",)]
    with pytest.raises(NotFound, match=r"Not found: Table .*never"):
        loaded(client, "never", parquet({"a": [1]}), create_disposition="CREATE_NEVER")


def test_a_large_file_is_uploaded_in_pieces(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.cloud.bigquery.client._DEFAULT_CHUNKSIZE", 256 * 1024)
    numbers = pa.array(range(100_000), pa.int64())
    file = parquet({"a": numbers})
    assert file.getbuffer().nbytes > 256 * 1024
    config = bigquery.LoadJobConfig(source_format="PARQUET")
    job = client.load_table_from_file(file, "glam_etl.large", job_config=config, timeout=SECONDS)
    assert isinstance(job, LoadJob)
    succeeded(job)
    assert client.get_table("glam_etl.large", retry=NEVER, timeout=SECONDS).num_rows == 100_000


def test_an_upload_goes_on_where_it_was_interrupted_and_its_last_piece_may_be_sent_twice(client: Client) -> None:
    file = parquet({"a": list(range(1000))}).getvalue()
    half, size = len(file) // 2, len(file)
    to = {"projectId": client.project, "datasetId": "glam_etl", "tableId": "resumed"}
    job = {
        "jobReference": {"jobId": "resumed"},
        "configuration": {"load": {"destinationTable": to, "sourceFormat": "PARQUET"}},
    }
    base = f"{client._connection.API_BASE_URL}/upload/bigquery/v2/projects/{client.project}/jobs?uploadType=resumable"
    address = requests.post(base, json=job, timeout=SECONDS).headers["Location"]

    def put(content: bytes, about: str) -> requests.Response:
        headers = {"Content-Range": f"bytes {about}"}
        return requests.put(address, content, headers=headers, timeout=SECONDS, allow_redirects=False)

    assert put(b"", "*/*").status_code == 308
    assert put(file[:half], f"0-{half - 1}/*").headers["Range"] == f"bytes=0-{half - 1}"
    assert put(b"", "*/*").headers["Range"] == f"bytes=0-{half - 1}"
    assert put(file[half + 1 :], f"{half + 1}-{size - 1}/{size}").status_code == 400
    for _ in range(2):
        answer = put(file[half - 10 :], f"{half - 10}-{size - 1}/{size}")
        assert (answer.status_code, answer.json()["jobReference"]["jobId"]) == (200, "resumed")
    assert put(b"", "*/*").status_code == 200
    found = client.get_job("resumed", location="US", retry=NEVER)
    assert isinstance(found, LoadJob)
    succeeded(found)
    assert len(content(client, "resumed")) == 1000
    given_up = requests.post(base, json=job, timeout=SECONDS).headers["Location"]
    assert requests.delete(given_up, timeout=SECONDS).status_code == 499
    assert requests.put(given_up, b"", timeout=SECONDS).status_code == 404


def test_a_job_id_is_taken_once_and_its_load_found_again(client: Client) -> None:
    loaded(client, "once", parquet({"a": [1]}), job_id="load_once")
    with pytest.raises(Conflict, match=r"Already Exists: Job .*:US.load_once"):
        load(client, "once", parquet({"a": [1]}), job_id="load_once")
    again: Any = client.get_job("load_once", location="US", retry=NEVER, timeout=SECONDS)
    assert (again.state, again.output_rows, again.destination.table_id) == ("DONE", 1, "once")
    again.result(retry=NEVER, timeout=SECONDS)
    assert content(client, "once") == [(1,)]


def test_what_does_not_fit_in_the_table_is_refused_and_nothing_is_loaded(client: Client) -> None:
    fields = [
        SchemaField("a", "INTEGER", "REQUIRED"),
        SchemaField("s", "STRING"),
        SchemaField("l", "STRING", "REPEATED"),
    ]
    make_table(client, "strict", *fields)
    required = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    files: list[tuple[Any, str]] = [
        (parquet({"a": [1]}), "Field a has changed mode from REQUIRED to NULLABLE"),
        (parquet({"a": ["x"]}), "Field a has changed type from INTEGER to STRING"),
        (parquet({"s": ["x"]}), "Field a is missing in new schema"),
        (parquet({"a": [1], "z": [1]}), r"Cannot add fields \(field: z\)"),
        (parquet({"l": [["x"]]}), "enableListInference only"),
        (parquet({"a": pa.array([1], pa.timestamp("ns"))}), r"does not read the type timestamp\[ns\]"),
        (parquet({"a": pa.array([1], pa.decimal256(76, 38))}), "needs a schema that says BIGNUMERIC"),
        (BytesIO(b"PAR1 not"), "Input file is not in Parquet format"),
    ]
    for file, words in files:
        with pytest.raises(BadRequest, match=words):
            loaded(client, "strict", file)
    loaded(client, "strict", parquet_of(pa.table({"a": [5]}, schema=required)))
    assert content(client, "strict") == [(5, None, [])]


def test_values_that_cannot_be_stored_are_refused_and_never_changed(client: Client) -> None:
    nested = [SchemaField("r", "RECORD", fields=[SchemaField("key", "STRING")])]
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    text = [SchemaField("a", "STRING")]
    compressed = gzip.compress(b'{"a": "x"}\n' * 1000)
    files: list[tuple[BytesIO, dict[str, Any], str]] = [
        (parquet({"a": broken}), {}, "Invalid unicode"),
        (parquet({"r": [{"Key": "k"}]}), {"schema": nested}, "column 'r.Key' is not in the schema"),
        (parquet({"a": pa.array([2**64 - 1], pa.uint64())}), {}, "not in range"),
        (
            parquet({"a": ["x"]}),
            {"schema": [SchemaField("a", "INTEGER")]},
            "does not match the target NULLABLE INTEGER",
        ),
        (BytesIO(b'{"a": "\\ud800"}'), {"schema": text, "source_format": JSON}, "surrogates not allowed"),
        (BytesIO(compressed[:-10]), {"schema": text, "source_format": JSON}, "ended before"),
        (BytesIO(compressed[:12] + b"\xff\xff" + compressed[14:]), {"schema": text, "source_format": JSON}, "."),
    ]
    tiny = parquet({"a": pa.array([Decimal("1e-12")], pa.decimal256(76, 38))})
    files.append((tiny, {"schema": [SchemaField("a", "BIGNUMERIC")]}, "data loss"))
    for file, config, words in files:
        with pytest.raises(BadRequest, match=f"Error while reading data, error message: .*{words}"):
            loaded(client, "unstorable", file, **config)
    with pytest.raises(NotFound):
        client.get_table("glam_etl.unstorable", retry=NEVER, timeout=SECONDS)


def test_decimals_are_stored_and_compared_and_no_more(client: Client) -> None:
    file = parquet({"a": pa.array([Decimal("1.5"), None], pa.decimal256(76, 38))})
    loaded(client, "decimals", file, schema=[SchemaField("a", "BIGNUMERIC")])
    sql = "SELECT COALESCE(a, 2), a > 1, MAX(a) OVER (), CAST(a AS FLOAT64), CAST(1 AS NUMERIC) FROM glam_etl.decimals"
    one, more = Decimal(1), Decimal("1.5")
    assert sorted(rows(client, sql), key=repr) == [(more, True, more, 1.5, one), (Decimal(2), None, more, None, one)]
    over = "SELECT {} FROM glam_etl.decimals"
    for expression in ("a + 1", "SUM(a)", "CAST(a AS STRING)", "CAST('1' AS NUMERIC)", "ABS(a)"):
        with pytest.raises(BadRequest, match="cannot translate"):
            rows(client, over.format(expression))


def test_rows_of_json_that_do_not_fit_are_told_of_by_field_and_nothing_is_loaded(client: Client) -> None:
    make_table(client, "strict_json", *EVERY_TYPE)
    lines: list[tuple[object, str]] = [
        ({"i": 1, "nope": 2}, "No such field: nope."),
        ({"s": "x"}, "Missing required fields: i."),
        ({"i": None}, "Only optional fields can be set to NULL. Field: i"),
        ({"i": "x"}, "Could not convert value to int64. Field: i; Value: x"),
        ({"i": 2**63}, "Could not convert value to int64"),
        ({"i": 1, "l": "x"}, "Expected an array for the repeated field: l."),
        ({"i": 1, "l": ["x", None]}, "Only optional fields can be set to NULL. Field: l"),
        ({"i": 1, "s": ["x"]}, "Array specified for non-repeated field: s."),
        ({"i": 1, "r": [{"kay": "x"}]}, "No such field: r.kay."),
        ({"i": 1, "n": "1e40"}, "Could not convert value to numeric. Field: n"),
        ({"i": 1, "bn": "0.12345678901"}, "Could not convert value to bignumeric"),
        ({"i": 1, "d": "2026-02-30"}, "Could not convert value to date"),
        ([1], "a JSON object is expected"),
    ]
    for row, words in lines:
        job = load(client, "strict_json", ndjson([{"i": 1}, row]), source_format=JSON)
        with pytest.raises(BadRequest, match="Rows: 2; errors: 1"):
            succeeded(job)
        first, second = job.errors or []
        assert (first["reason"], second["reason"]) == ("invalid", "invalid")
        assert words in second["message"]
        assert "row starting at position 9" in second["message"]
    assert content(client, "strict_json") == []
    file = ndjson([{"i": 1, "nope": 2}])
    loaded(client, "strict_json", file, source_format=JSON, ignore_unknown_values=True)
    assert len(content(client, "strict_json")) == 1


def test_what_the_warehouse_does_not_have_is_refused_by_name(client: Client) -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"source_format": "CSV"}, "loads PARQUET and NEWLINE_DELIMITED_JSON only, not CSV"),
        ({"max_bad_records": 3}, "does not support maxBadRecords"),
        ({"schema_update_options": ["ALLOW_FIELD_ADDITION"]}, "does not support schemaUpdateOptions"),
    ]
    for config, words in refusals:
        with pytest.raises(BadRequest, match=words):
            load(client, "refused", parquet({"a": [1]}), **config)
    for field, words in (
        (SchemaField("a", "GEOGRAPHY"), "does not support the type GEOGRAPHY of field a"),
        (SchemaField("a", "RECORD", fields=[SchemaField("b", "STRING", "REQUIRED")]), "REQUIRED of the nested field b"),
        (SchemaField("a b", "STRING"), 'Invalid field name "a b"'),
    ):
        with pytest.raises(BadRequest, match=words):
            make_table(client, "refused", field)
    with pytest.raises(BadRequest, match="does not detect it in JSON"):
        loaded(client, "refused", ndjson([{"a": 1}]), source_format=JSON, autodetect=True)
    numbers = bigquery.LoadJobConfig(schema=[SchemaField("a", "INTEGER")])
    job = client.load_table_from_json([{"a": 1}], "nowhere.t", job_config=numbers, timeout=SECONDS)
    with pytest.raises(NotFound, match="Not found: Dataset"):
        succeeded(job)
