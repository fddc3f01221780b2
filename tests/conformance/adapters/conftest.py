"""Models and adapters that the cases share."""

import pytest
from tests.conformance.adapters.kinds import Shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))
