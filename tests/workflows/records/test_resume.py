"""What may have changed in a run that is resumed; `test_train.py` resumes real ones."""

import json
from dataclasses import replace

import pytest

from moored.errors import InputError
from moored.huggingface.training.arguments import sft_fields
from moored.huggingface.training.checkpoints import mark_complete
from moored.report.reading.train import DataRecord, ReferenceRecord, StartRecord, TrainReport
from moored.workflows.records.resume import _MAY_CHANGE, require_same_run
from moored.workflows.train.config import TrainConfig

CONFIG = {"model": "m", "output_dir": "out", "lora": {"r": 2, "lora_alpha": 4}, "learning_rate": 0.01, "max_steps": 4}
REPORT = TrainReport(
    created="2026-01-01T00:00:00+00:00",
    command="moored train run.yaml",
    versions={},
    config=CONFIG,
    model=StartRecord(name="m", adapter=None, weights_sha256="2"),
    reference=ReferenceRecord(name="m", adapter=None, is_start=True),
    output="adapter",
    data=DataRecord(dataset="d", rows=4, tokens_sha256="1"),
    safeguards=[],
)


def _write(folder, report):
    (folder / TrainReport.file).write_text(json.dumps(report.to_dict()))


@pytest.fixture
def resumed(tmp_path):
    """Resumes a run that left a checkpoint, with some settings changed (None leaves one out)."""
    (tmp_path / "checkpoint-2").mkdir()
    mark_complete(tmp_path / "checkpoint-2")
    _write(tmp_path, REPORT)

    def check(**changes):
        config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
        require_same_run(tmp_path, replace(REPORT, config=config))

    return check


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": 0.001}, r"another setting of learning_rate \(0.01 then, 0.001 now\)"),
        ({"learning_rate": None}, r"another setting of learning_rate \(0.01 then, not set now\)"),
        ({"weight_decay": 0.1}, r"another setting of weight_decay \(not set then, 0.1 now\)"),
        ({"save_steps": 5}, "another setting of save_steps"),
        ({"seed": 1}, "another setting of seed"),
        ({"lora": {"r": 3, "lora_alpha": 4}}, "another setting of lora"),
    ],
)
def test_what_the_checkpoint_goes_before_is_refused(resumed, change, sentence):
    with pytest.raises(InputError, match=rf"^The run in .* trained with {sentence}.*; resume it with the same"):
        resumed(**change)


def test_what_takes_effect_may_change(resumed):
    resumed(max_steps=8, output_dir="./out", report_to="none", save_total_limit=1, model="moved")
    resumed(lora={"lora_alpha": 4, "r": 2})


def test_what_may_change_is_a_setting():
    assert not _MAY_CHANGE - sft_fields() - set(TrainConfig.__dataclass_fields__)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_left_nothing_starts_over_with_any_setting(tmp_path, finished):
    _write(tmp_path, replace(REPORT, finished=finished))
    other = replace(REPORT, config={**CONFIG, "learning_rate": 1.0})
    if finished:
        with pytest.raises(InputError, match="learning_rate"):
            require_same_run(tmp_path, other)
    else:
        require_same_run(tmp_path, other)
