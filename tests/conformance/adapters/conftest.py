"""Models and adapters that the cases share."""

import pytest
from tests.conformance.adapters.kinds import Shelf, lora


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def adapter(shelf):
    return shelf.train("llama", lora())
