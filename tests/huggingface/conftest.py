import pytest
from tests.huggingface.training.fixtures import light_runs

_ = light_runs


@pytest.fixture(autouse=True)
def all_runs_are_light(light_runs):
    """The module's, for every test here."""
