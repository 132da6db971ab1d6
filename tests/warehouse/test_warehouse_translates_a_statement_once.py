"""A statement that is estimated and then run is translated once."""

from collections.abc import Iterator

import pytest

from tests.support.warehouse_support import seeded
from warehouse import engine as module
from warehouse.catalogue import Catalogue
from warehouse.engine import TRANSLATIONS, Engine
from warehouse.errors import BigQueryError
from warehouse.parameters import Parameter
from warehouse.schema import Type
from warehouse.translation.translate import Translation, translate
from warehouse.translation.value import FLOAT64, INT64

SQL = "SELECT @a + 1 AS b"


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(seeded(tmp_path_factory))
    yield engine
    engine.close()


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the texts that are translated, each as often as it is."""
    texts: list[str] = []

    def counting(text: str, project: str, catalogue: Catalogue, parameters: dict[str, Type]) -> Translation:
        texts.append(text)
        return translate(text, project, catalogue, parameters)

    monkeypatch.setattr(module, "translate", counting)
    return texts


def test_other_values_need_no_other_translation_but_are_their_own(engine: Engine, translated: list[str]) -> None:
    plans = [engine.plan(SQL, "p", {"a": Parameter(INT64, value)}) for value in (1, 2)]
    assert [plan.parameters["a"].value for plan in plans] == [1, 2]
    assert translated == [SQL]


def test_other_types_and_other_projects_do(engine: Engine, translated: list[str]) -> None:
    kinds = [engine.plan(SQL, "p", {"a": Parameter(kind, 1)}).translation.columns for kind in (INT64, FLOAT64)]
    assert kinds == [[("b", INT64)], [("b", FLOAT64)]]
    engine.plan(SQL, "q", {"a": Parameter(INT64, 1)})
    assert translated == [SQL] * 3


def test_an_error_is_found_again(engine: Engine, translated: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(BigQueryError, match="Unrecognized name: nothing"):
            engine.plan("SELECT nothing", "p", {})
    assert len(translated) == 2


def test_the_oldest_is_forgotten(engine: Engine, translated: list[str]) -> None:
    for number in [*range(TRANSLATIONS + 1), 0]:
        engine.plan(f"SELECT {number} AS a", "p", {})
    assert len(translated) == TRANSLATIONS + 2
