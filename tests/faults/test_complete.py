"""Every row of the catalogue is provoked, or says what must be there first; the README shows them all."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.faults
from hived_client.vocabulary.faults import CATALOGUE
from tests.faults.printing import readme, with_table
from tests.faults.provoking import LATER, PROVOKED


@pytest.fixture(scope="module")
def provoked() -> frozenset[str]:
    """Every code that a provocation names."""
    for module in pkgutil.iter_modules(tests.faults.__path__):
        if module.name.startswith("test_"):
            importlib.import_module(f"tests.faults.{module.name}")
    return frozenset(PROVOKED)


def test_every_row_is_provoked_or_has_its_reason(provoked: frozenset[str]) -> None:
    assert sorted(CATALOGUE.keys() - provoked - LATER.keys()) == []


def test_nothing_is_provoked_that_is_no_row(provoked: frozenset[str]) -> None:
    assert sorted((provoked | LATER.keys()) - CATALOGUE.keys()) == []


def test_what_is_provoked_is_not_put_off(provoked: frozenset[str]) -> None:
    assert sorted(provoked & LATER.keys()) == []
    assert all(reason.strip() for reason in LATER.values())


def test_the_readme_shows_the_catalogue_as_it_is() -> None:
    text = readme().read_text()
    assert with_table(text) == text, "python -m tests.faults --readme writes the table again"
