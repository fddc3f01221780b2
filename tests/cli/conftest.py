import pytest

from moored.cli import measure, recover, select


@pytest.fixture(autouse=True)
def loud_libraries(monkeypatch):
    """Other tests need the warnings and progress bars that a command switches off for its process."""
    for command in (measure, recover, select):
        monkeypatch.setattr(command, "quiet_libraries", lambda: None)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """A command may set this for its process."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
