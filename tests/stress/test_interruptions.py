"""A command that is stopped anywhere, and run again as its messages say, ends as if nothing had happened."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.adapters import save_adapter
from tests.stress.processes import Command, Ended, moored
from tests.tiny import save_tiny
from tests.workflows.files import digests, write_rows

TRAINING = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "activation_checkpointing": False,
    "use_cpu": True,
    "bf16": False,
    "save_steps": 2,
    "report_to": "none",
    "lora": {"r": 2, "lora_alpha": 4},
}
NONE = ("--harmless", "none", "--ordinary", "none")
COMMANDS = {
    "measure": ("model", "--adapter", "adapter", "--harmful", "prompts.jsonl", *NONE, "--max-new-tokens", "4"),
    "train": ("run.yaml",),
    "select": ("rows.jsonl", "--model", "model", "--chunk-rows", "3"),
    "recover": ("model", "--adapter", "adapter", "--preset", "published", "--steps", "2"),
    "inspect gradients": ("model", "--adapter", "adapter", "--base", "model", "--data", "rows.jsonl"),
    "inspect spectrum": ("model", "--adapter", "adapter", "--batch", "2", "--top", "2"),
    "inspect basin": ("model", "--adapter", "adapter", "--base", "model", "--random", "1", "--prompts", "2"),
}
POINTS = {"SIGKILL": 20, "SIGTERM": 4, "SIGINT": 4, "ENOSPC": 6}
CHANGING = {"created", "command", "seconds", "train_loss", "resumed_from"}
"""What the record of a run says of itself alone."""
CHECKPOINTS = "checkpoint-"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every command reads."""
    folder = tmp_path_factory.mktemp("inputs")
    base = save_tiny(folder / "model")
    save_adapter(folder / "adapter", base=str(base))
    write_rows(folder / "prompts.jsonl", [{"prompt": f"What is {n}?"} for n in range(6)])
    rows = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(10)]
    write_rows(folder / "rows.jsonl", rows)
    training = {"model": "model", "dataset": "rows.jsonl", "output_dir": "out", **TRAINING}
    (folder / "run.yaml").write_text(yaml.safe_dump(training))
    return folder


def _place(inputs: Path, folder: Path) -> Path:
    folder.mkdir()
    for each in inputs.iterdir():
        (folder / each.name).symlink_to(each)
    return folder


def _words(name: str) -> list[str]:
    out = [] if name == "train" else ["--out", "out"]
    return [*name.split(), *COMMANDS[name], *out]


def _again(name: str, folder: Path) -> Ended:
    """The command once more, with --resume where it asks for it."""
    ended = moored(*_words(name), folder=folder)
    if ended.code == 2 and "--resume" in ended.text:
        ended = moored(*_words(name), "--resume", folder=folder)
    return ended


def _results(folder: Path) -> dict[str, Any]:
    """What a command has left: the hash of each file, and the records without what is of their own run."""
    out = folder / "out"
    found: dict[str, Any] = {
        name: digest for name, digest in digests(out).items() if CHECKPOINTS not in name and not name.endswith(".html")
    }
    for name in found:
        if name.endswith(".json") and name in ("report.json", "moored_run.json", "moored_recovery.json"):
            found[name] = _lasting(json.loads((out / name).read_text(encoding="utf-8")))
    return found | {"beside": sorted(each.name for each in folder.iterdir())}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(each) for key, each in value.items() if key not in CHANGING}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The undisturbed run of each command: its results and the number of its events."""
    known: dict[str, tuple[dict[str, Any], int]] = {}

    def run(name: str) -> tuple[dict[str, Any], int]:
        if name not in known:
            folder = _place(inputs, tmp_path_factory.mktemp("whole") / "run")
            ended = moored(*_words(name), folder=folder)
            assert ended.code == 0, ended.text
            known[name] = _results(folder), ended.events
        return known[name]

    return run


def _spread(events: int, count: int) -> Sequence[int]:
    return sorted({1 + events * point // count for point in range(min(count, events))})


@pytest.mark.parametrize("act", POINTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_stopped_command_run_again_ends_alike(
    inputs: Path, tmp_path: Path, whole: Any, record: Any, request: pytest.FixtureRequest, name: str, act: str
) -> None:
    is_long = request.config.getoption("--stress")
    if not is_long and (name, act) not in (("measure", "SIGKILL"), ("select", "SIGKILL"), ("recover", "ENOSPC")):
        pytest.skip("runs with --stress")
    expected, events = whole(name)
    points = _spread(events, POINTS[act] if is_long else 2)
    for point in points:
        folder = _place(inputs, tmp_path / str(point))
        stopped = moored(*_words(name), folder=folder, at=point, act=act)
        assert "Traceback" not in stopped.text, (point, stopped.text)
        if act == "ENOSPC":
            assert stopped.code == 2 and "No space left on device" in stopped.text, (point, stopped)
        elif act == "SIGKILL":
            assert stopped.code == -9, (point, stopped)
        else:
            assert stopped.code != 0, (point, stopped)
        ended = _again(name, folder)
        # One that came too late has left a whole output, which is not replaced.
        assert ended.code == 0 or "is not empty" in ended.text, (point, stopped.text, ended.text)
        assert _results(folder) == expected, point
    record(test="stopped", command=name, by=act, events=events, points=len(points), equal=len(points))


@pytest.mark.parametrize("name", COMMANDS)
def test_of_two_at_once_one_writes(
    inputs: Path, tmp_path: Path, whole: Any, record: Any, request: pytest.FixtureRequest, name: str
) -> None:
    if not request.config.getoption("--stress"):
        pytest.skip("runs with --stress")
    folder = _place(inputs, tmp_path / "run")
    both = [Command(_words(name), folder) for _ in range(2)]
    ended = sorted((each.wait() for each in both), key=lambda each: each.code)
    assert [each.code for each in ended] == [0, 2], ended
    assert _results(folder) == whole(name)[0]
    record(test="two at once", command=name, equal=1)
