"""Pages of a result have in their columns what the client's own rows have, whatever the size of a page."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from google.cloud.bigquery import Client

from tests.support.warehouse_support import NEVER, client_of, seeded, start
from usage_service.shared.bigquery.pages import read_pages, rows_of

VALUES = """
SELECT
  x,
  IF(x = 3, NULL, x * 4611686018427387904) AS large,
  IF(x = 3, NULL, x / 3) AS share,
  IF(x = 0, -0.0, 0.0) AS zero,
  IF(x = 3, NULL, x > 0) AS positive,
  IF(x = 3, NULL, CONCAT('"é', CHR(10), 'é"')) AS text,
  [x / 7, 0.1] AS shares,
  CAST(NULL AS ARRAY<STRING>) AS nothing
FROM UNNEST([-2, 0, 1, 3]) AS x
ORDER BY x
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client_of(seeded(tmp_path_factory)) as client:
        yield client


@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_columns_have_the_values_of_the_clients_rows(client: Client, page_size: int) -> None:
    plain = [dict(row) for row in start(client, VALUES).result(retry=NEVER)]
    pages = list(read_pages(start(client, VALUES).result(page_size=page_size, retry=NEVER)))
    assert len(pages) == math.ceil(4 / page_size)
    assert repr(list(rows_of(pages))) == repr(plain)  # which has the sign of a zero, and tells True from 1
    assert pages[0]["large"][0] == -(2**63)


def test_a_result_without_rows_has_its_columns(client: Client) -> None:
    result = start(client, "SELECT x, 'a' AS y FROM UNNEST([1]) AS x WHERE x > 1").result(retry=NEVER)
    pages = list(read_pages(result))
    assert pages == [{"x": [], "y": []}]
    assert list(rows_of(pages)) == []


def test_a_type_that_no_statement_has_is_refused_by_name(client: Client) -> None:
    result = start(client, "SELECT TIMESTAMP '2026-11-29 00:00:00' AS at").result(retry=NEVER)
    with pytest.raises(ValueError, match="the column at is a TIMESTAMP; only these are read: INTEGER"):
        list(read_pages(result))
