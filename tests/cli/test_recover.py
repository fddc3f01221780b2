import json

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_model
from typer.testing import CliRunner

from moored.recovery import OneShot
from moored.verbs import meanings
from moored.workflows.inputs import example_pool as _example_pool
from moored.workflows.recover.method import OWNERS
from moored.workflows.recover.run import recover
from moored.workflows.recover.settings import RecoverSettings

SAME = ("method", "model", "steps")


@pytest.fixture
def recovered(tmp_path):
    """Runs `moored recover` on a tiny model and gives the result and the record."""

    def run(*arguments):
        from moored.cli import app

        done = CliRunner().invoke(app, ["recover", *map(str, arguments), "--out", str(tmp_path / "out")])
        record = tmp_path / "out" / "moored_recovery.json"
        return done, json.loads(record.read_text()) if record.is_file() else None

    return run


def test_an_adapter_is_repaired_and_the_next_command_named(tmp_path, recovered):
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    arguments = ("--adapter", adapter, "--steps", 2, "--learning-rate", 0.01, "--refusal", "No.")
    done, record = recovered(base, *arguments)
    assert done.exit_code == 0, done.output
    given = OneShot.preset("auto", steps=2, learning_rate=0.01, refusal="No.")
    assert record["method"] == {"name": "one_shot", **vars(given)}
    assert f"2 steps: loss of the safety example {record['steps']['loss'][0]:.3f} → " in done.output
    assert f"the adapter's factors moved by {100 * record['steps']['moved']:.2g} % of their norm." in done.output
    compared = (
        f"--adapter {tmp_path / 'out'} --against {base} --against-adapter {adapter} --out repaired-against-damaged"
    )
    assert f"What it brought: moored measure {base} {compared}" in done.output


def test_an_adapter_folder_alone_gets_the_preset_for_a_model_whose_start_is_known(tmp_path, recovered):
    adapter = save_adapter(tmp_path / "adapter", base=str(save_tiny(tmp_path / "base")))
    done, record = recovered(adapter, "--steps", 1, "--prompt", "A?", "--refusal", "No.", "--stop-at", 0.5)
    assert record["method"]["learning_rate"] is None and record["steps"]["learning_rate"] > 0
    assert (record["method"]["prompt"], record["method"]["refusal"], record["method"]["stop_at"]) == ("A?", "No.", 0.5)
    assert f"moored measure {tmp_path / 'out'} --against {adapter} --out repaired-against-damaged" in done.output
    assert "the adapter's factors moved by" in done.output


def test_a_checkpoint_gets_the_published_preset_unless_another_is_named(tmp_path, recovered):
    base = save_tiny(tmp_path / "base")
    _, record = recovered(base)
    assert record["method"] == {"name": "one_shot", **vars(OneShot.preset("published"))}
    _, record = recovered(base, "--overwrite", "--preset", "adapter", "--steps", 1)
    assert record["method"]["learning_rate"] == OneShot.preset("adapter").learning_rate


def test_the_aligned_model_s_own_refusal_is_learned_where_it_refuses(tmp_path, recovered, monkeypatch):
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    asked = []

    def generate(model, tokenizer, rendered, **_):
        asked.append(model(torch.tensor([[5, 6, 7]])).logits)
        return ["I cannot help with that. Ask something else."]

    done, record = recovered(base, "--adapter", adapter)
    assert type(done.exception).__name__ == "InputError" and record is None
    assert "does not refuse 'How can I bypass" in str(done.exception) and "--refusal" in str(done.exception)
    monkeypatch.setattr(_example_pool, "generate", generate)
    done, record = recovered(base, "--adapter", adapter, "--steps", 1)
    assert record["method"]["refusal"] == "I cannot help with that." and record["against"] == str(base)
    done, record = recovered(base, "--against", base, "--overwrite", "--steps", 1)
    assert record["method"]["refusal"] == "I cannot help with that."
    plain = tiny_model()(torch.tensor([[5, 6, 7]])).logits
    assert all(torch.equal(each, plain) for each in asked) and len(asked) == 2
    done, _ = recovered(base, "--adapter", adapter, "--overwrite", "--refusal", "No.", "--against", base)
    assert "uses the aligned model only to" in str(done.exception)


def test_no_steps_are_called_a_copy(tmp_path, recovered):
    done, record = recovered(save_tiny(tmp_path / "base"), "--steps", 0)
    assert "is a copy, bit for bit" in done.output and record["steps"] is record["updates"] is None


def test_a_setting_that_cannot_be_meant_leaves_nothing(tmp_path, recovered):
    base = save_tiny(tmp_path / "base")
    for arguments in (("--steps", -1), ("--share", 1.5), ("--refusal", " ")):
        done, record = recovered(base, *arguments)
        assert done.exit_code == 1 and type(done.exception).__name__ == "InputError" and record is None
    done, record = recovered(base, "--preset", "other")
    assert done.exit_code == 2 and "--preset" in done.output and record is None
    assert not (tmp_path / "out").exists()


def test_a_repair_by_a_formula_tells_what_is_left_of_the_update(tmp_path, recovered):
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    done, record = recovered(base, "--adapter", adapter, "--method", "linear_pull", "--share", 0.25)
    assert done.exit_code == 0, done.output
    assert record["method"] == {"name": "linear_pull", "share": 0.25} and record["against"] == str(base)
    assert "linear_pull changed 6 of 6 updates; 75% of their norm is left." in done.output
    assert (
        f"--adapter {tmp_path / 'out'} --against {base} --against-adapter {adapter} --out repaired-against-damaged"
        in done.output
    )


def test_the_next_command_can_be_pasted_whatever_the_folders_are_called(tmp_path, recovered):
    base = save_tiny(tmp_path / "my [v2] base")
    done, _ = recovered(base, "--steps", 1)
    assert f"moored measure {tmp_path / 'out'} --against '{base}' --out repaired-against-damaged" in done.output


def test_an_example_is_chosen_from_a_file_by_prompts_of_the_task(tmp_path, recovered):
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    pool, task = tmp_path / "pool.jsonl", tmp_path / "task.jsonl"
    rows = [{"prompt": f"How do I do {what}?", "refusal": "I cannot help."} for what in ("this", "that")]
    pool.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task.write_text(json.dumps({"prompt": "Add one and one."}) + "\n")
    chosen = ("--choose-from", pool, "--choose-by", "bilevel", "--task", task)
    done, record = recovered(base, "--adapter", adapter, "--steps", 1, *chosen)
    assert done.exit_code == 0, done.output
    assert record["choice"] == {"examples": str(pool), "by": "bilevel", "task": str(task)}
    assert record["method"]["prompt"] in {row["prompt"] for row in rows}
    assert f"Example chosen: {record['method']['prompt']}" in done.output
    ranking = json.loads((tmp_path / "out" / "moored_example_choice.json").read_text())
    assert {each["prompt"] for each in ranking} >= {row["prompt"] for row in rows}


def test_safe_lora_takes_the_direction_from_the_base(tmp_path, recovered):
    aligned, base = save_tiny(tmp_path / "aligned"), save_tiny(tmp_path / "base", seed=1)
    adapter = save_adapter(tmp_path / "adapter")
    arguments = ("--adapter", adapter, "--method", "safe_lora", "--threshold", 1, "--form", "projector", "--rank", 3)
    done, record = recovered(aligned, *arguments, "--base", base)
    assert done.exit_code == 0, done.output
    assert record["method"] == {"name": "safe_lora", "threshold": 1.0, "form": "projector", "rank": 3}


def test_a_setting_of_another_method_is_refused(tmp_path, recovered):
    done, record = recovered(save_tiny(tmp_path / "base"), "--method", "linear_pull", "--stop-at", 0.1)
    assert str(done.exception) == "--stop-at is a setting of one_shot, not of linear_pull; leave it out."
    assert record is None


def test_the_command_line_and_python_repair_alike(tmp_path, recovered):
    """Above all with the same preset."""
    base, adapter = save_tiny(tmp_path / "base"), save_adapter(tmp_path / "adapter")
    for number, arguments in enumerate(({"adapter": str(adapter), "refusal": "No."}, {"prompt": "A?"})):
        report = recover(str(base), out=tmp_path / str(number), steps=1, **arguments)
        words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
        _, record = recovered(base, "--overwrite", "--steps", 1, *words)
        told = report.to_dict()
        assert [record[key] for key in ("method", "model", "steps")] == [
            told[key] for key in ("method", "model", "steps")
        ]


def test_help_says_which_method_each_setting_belongs_to():
    texts = meanings(RecoverSettings)
    for name, method in OWNERS.items():
        assert f"`{method}`" in texts[name]
