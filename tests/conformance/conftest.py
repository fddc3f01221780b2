"""The slow cases run on request, and what has passed is written down for `docs/compatibility.md`."""

import json
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config, items):
    """Leaves out the slow cases unless they are asked for."""
    if config.getoption("--conformance"):
        return
    slow = [item for item in items if (mark := item.get_closest_marker("conformance")) and not mark.kwargs["fast"]]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Keeps what a case has shown."""
    result = yield
    mark = item.get_closest_marker("conformance")
    file = item.config.getoption("--conformance-results")
    report = result.get_result()
    if mark is None or file is None or call.when != "call" or report.skipped:
        return
    area = Path(item.path).parent.name
    row = {"area": area, "test": item.originalname, **mark.kwargs, "passed": report.passed}
    # The test may have gone to another folder.
    with (item.config.invocation_params.dir / file).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row, ensure_ascii=False) + "\n")
