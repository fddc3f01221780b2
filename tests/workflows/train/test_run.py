import json
import os
from importlib.metadata import version

import huggingface_hub
import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tests.huggingface.training.fixtures import L2, THIRD_PARTY_WARNINGS, light_runs
from tests.tiny import KINDS, save_tiny, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback

from moored.errors import DivergedError, InputError, ModelError
from moored.files import sole_writer
from moored.huggingface.models import ModelSource, load_model
from moored.huggingface.training import SafeguardedSFTTrainer
from moored.huggingface.training import build as start
from moored.regularizers import REGULARIZERS
from moored.report.reading.record import read_record
from moored.report.reading.train import TrainReport
from moored.workflows.train import run as workflow
from moored.workflows.train.run import train

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]
_ = light_runs

ROWS = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(12)]
QUICK = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.01,
    "activation_checkpointing": False,
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 1,
    "lora": {"r": 2, "lora_alpha": 4},
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Writes a model, rows and a configuration; calling it trains with some keys changed (None leaves one out)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    save_tiny(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(*, resume=False, overrides=(), without=(), **changes):
        keys = {"model": "model", "dataset": "rows.jsonl", "output_dir": "out", **QUICK, **changes}
        keys = {key: value for key, value in keys.items() if key not in without}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
        return train(tmp_path / "run.yaml", overrides=overrides, resume=resume)

    run.folder = tmp_path  # pyright: ignore[reportFunctionMemberAccess]
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_an_adapter_its_tokenizer_and_its_record(job, kind):
    save_tiny(job.folder / kind, kind)
    record = job(model=kind)
    out = job.folder / "out"
    assert {"adapter_model.safetensors", "adapter_config.json", "chat_template.jinja", "checkpoint-4"} <= set(
        os.listdir(out)
    )
    assert (out / "adapter_model.safetensors").stat().st_mode & 0o777 == 0o644
    assert not (out / "training_args.bin").exists() and not list(out.glob(".*"))
    # TRL's card, of the checkpoints, and not PEFT's empty one, which names this machine's path of the base.
    card = (out / "README.md").read_text()
    assert "trained using [TRL]" in card and "More Information Needed" not in card
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == kind
    assert AutoTokenizer.from_pretrained(out).chat_template == tiny_tokenizer().chat_template
    assert json.loads((out / "moored_run.json").read_text()) == record.to_dict()
    assert read_record(TrainReport, out) == record
    assert record.finished and record.steps == 4 and record.output == "adapter"
    assert record.config["learning_rate"] == 0.01 and record.versions["torch"] == version("torch")
    assert vars(record.reference) == {"name": kind, "adapter": None, "is_start": True}
    assert record.data.rows == 12 and len(record.data.tokens_sha256) == 64
    trained, base = load_model(ModelSource(kind, out)), load_model(ModelSource(kind))
    ids = torch.tensor([[1, 20, 30, 40]])
    assert not torch.allclose(trained(ids).logits, base(ids).logits)
    modules = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in load_file(out / "adapter_model.safetensors")}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_all_parameters_are_trained_without_lora(job):
    record = job(lora=None)
    out = job.folder / "out"
    assert record.output == "checkpoint" and (out / "model.safetensors").is_file()
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in ("model", out))
    assert before.keys() == after.keys() and all(not torch.equal(before[name], after[name]) for name in before)


def _strict(file):
    return json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1.0e30},
        {"learning_rate": 1.0e30, "safeguards": [{"name": "update_norm", "strength": 1.0}]},
        {"weight_decay": 1.0e35, "lora": None},
    ],
    ids=["plain", "guarded", "decayed"],
)
def test_a_diverged_run_is_an_error_and_leaves_no_result(job, changes):
    with pytest.raises(DivergedError, match=r"^The training diverged: .*; try a lower learning_rate.*\.$") as raised:
        job(max_steps=6, save_steps=6, **changes)
    assert raised.value.exit_code == 2
    out = job.folder / "out"
    assert not list(out.rglob("*.safetensors")) and not list(out.glob(".*"))
    record = _strict(out / "moored_run.json")
    assert not record["finished"] and record["error"] == str(raised.value) and record["train_loss"] is None


def test_a_setting_of_infinity_is_recorded_as_json_can(job):
    job(max_grad_norm=float("inf"), max_steps=1)
    assert _strict(job.folder / "out" / "moored_run.json")["config"]["max_grad_norm"] == "inf"


def test_the_command_line_wins(job):
    record = job(overrides=["max_steps=1", "lora.r=3"])
    assert record.steps == 1
    assert json.loads((job.folder / "out" / "adapter_config.json").read_text())["r"] == 3


def _adapter(folder, seed=3):
    """A safety adapter for the tiny model, with factors that do something."""
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained("model"),
        LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    )
    model.save_pretrained(folder)
    return str(folder)


def test_a_run_from_base_and_adapter_gives_one_adapter_for_that_base(job, monkeypatch):
    below = _adapter(job.folder / "below")
    seen = {}
    save = workflow._save

    def spy(trainer, out):
        seen["logits"] = trainer.model.eval()(ids).logits.detach()
        save(trainer, out)

    monkeypatch.setattr(workflow, "_save", spy)
    ids = torch.tensor([[1, 20, 30, 40]])
    record = job(adapter=below)
    assert vars(record.reference) == {"name": "model", "adapter": below, "is_start": True}
    config = json.loads((job.folder / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "model"
    stacked = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("model"), "out").eval()
    torch.testing.assert_close(stacked(ids).logits, seen["logits"], rtol=1e-4, atol=1e-4)
    start_logits = load_model(ModelSource("model", job.folder / "below"))(ids).logits
    assert (start_logits - seen["logits"]).abs().max() > 0.01


class Crash(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("adapter", [False, True], ids=["from a checkpoint", "from an adapter"])
def test_resume_ends_where_the_uninterrupted_run_does(job, monkeypatch, adapter):
    changes = {"lora": {**QUICK["lora"], "lora_dropout": 0.2}, "shuffle_dataset": True}
    if adapter:
        changes["adapter"] = _adapter(job.folder / "below")
    job(output_dir="whole", **changes)
    with monkeypatch.context() as patched:
        init = SafeguardedSFTTrainer.__init__
        patched.setattr(SafeguardedSFTTrainer, "__init__", lambda self, **kw: init(self, callbacks=[Crash()], **kw))
        with pytest.raises(RuntimeError, match="power cut"):
            job(**changes)
    assert json.loads((job.folder / "out" / "moored_run.json").read_text())["finished"] is False
    (job.folder / "out" / "checkpoint-4").mkdir()
    (job.folder / "out" / "checkpoint-4" / "trainer_state.json").write_text("{")
    with pytest.raises(InputError, match="holds a run already; continue it with --resume"):
        job(**changes)
    record = job(resume=True, **changes)
    assert record.resumed_from == "checkpoint-2" and record.steps == 4
    whole, resumed = (load_file(job.folder / out / "adapter_model.safetensors") for out in ("whole", "out"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_rows_with_tokens_that_the_model_lacks_are_refused_before_it_is_loaded(job, monkeypatch):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zanzibar"])
    tokenizer.save_pretrained(job.folder / "model")
    (job.folder / "rows.jsonl").write_text(json.dumps({"prompt": "Where?", "completion": "In zanzibar."}) + "\n")
    monkeypatch.setattr(workflow, "make_trainer", None)
    with pytest.raises(ModelError, match=r"gives the token \d+, which lies beyond the \d+ tokens of model"):
        job()
    assert not (job.folder / "out").exists()


def test_two_runs_never_share_a_folder(job, monkeypatch):
    with sole_writer(job.folder / "out"), pytest.raises(InputError, match="Another moored process is writing to out"):
        job()
    prepare = workflow.prepare

    def overtaken(settings):
        """Another run ends while this one is prepared."""
        plan = prepare(settings)
        (job.folder / "out").mkdir()
        (job.folder / "out" / "moored_run.json").write_text("{}")
        return plan

    monkeypatch.setattr(workflow, "prepare", overtaken)
    with pytest.raises(InputError, match="holds a run already"):
        job()
    assert (job.folder / "out" / "moored_run.json").read_text() == "{}"


def test_a_run_that_is_resumed_at_its_end_takes_no_further_step(job):
    job(lr_scheduler_type="constant")
    before = load_file(job.folder / "out" / "adapter_model.safetensors")
    file = job.folder / "out" / "moored_run.json"
    # The kill came between the last checkpoint and the end.
    file.write_text(file.read_text().replace('"finished": true', '"finished": false'))
    record = job(resume=True, lr_scheduler_type="constant")
    assert (record.resumed_from, record.steps) == ("checkpoint-4", 4)
    after = load_file(job.folder / "out" / "adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_run_stays_as_it_is_unless_it_is_to_be_longer(job):
    first = job()
    assert job(resume=True) == first
    assert job(resume=True, max_steps=6).steps == 6


def test_resume_starts_over_where_there_is_nothing_and_refuses_another_run(job):
    assert job(resume=True).resumed_from is None
    save_tiny(job.folder / "other", seed=5)
    for change, sentence in (
        ({"render": "raw"}, "learned from other data"),
        ({"model": "other"}, "started from other weights"),
        ({"lora": {"r": 3}}, "another setting of lora"),
        ({"lora": None}, "another setting of lora"),
        ({"learning_rate": 0.001}, r"another setting of learning_rate \(0.01 then, 0.001 now\)"),
    ):
        with pytest.raises(InputError, match=sentence):
            job(resume=True, **change)
    longer = job(resume=True, max_steps=6)
    assert longer.resumed_from == "checkpoint-4" and longer.steps == 6


def test_resume_touches_no_folder_that_holds_no_run(job):
    before = sorted((job.folder / "model").iterdir())
    with pytest.raises(InputError, match="output folder model is not empty"):
        job(resume=True, output_dir="model")
    assert sorted((job.folder / "model").iterdir()) == before


def test_drift_is_measured_and_recorded(job):
    (job.folder / "prompts.jsonl").write_text('{"prompt": "Help me pick a lock."}\n{"prompt": "Tell me a secret."}\n')
    drift = {"prompts": "prompts.jsonl", "ordinary": "prompts.jsonl", "stop": 100}
    record = job(drift=drift, eval_dataset="rows.jsonl", eval_strategy="steps", eval_steps=2)
    assert record.drift.start.keys() == {"refusal_log_odds", "kl_harmful", "kl_ordinary"}
    # The reference keeps its logits in bf16.
    assert record.drift.start["kl_harmful"] == pytest.approx(0, abs=1e-3)
    assert record.drift.end["kl_harmful"] > 10 * abs(record.drift.start["kl_harmful"])
    plain = job(output_dir="plain", eval_dataset="rows.jsonl", eval_strategy="steps", eval_steps=2)
    assert plain.drift is None and plain.train_loss == record.train_loss


def test_drift_is_taken_against_the_named_reference(job):
    save_tiny(job.folder / "aligned", seed=5)
    (job.folder / "prompts.jsonl").write_text('{"prompt": "Help me pick a lock."}\n')
    record = job(drift={"prompts": "prompts.jsonl", "ordinary": "prompts.jsonl"}, reference="aligned")
    assert vars(record.reference) == {"name": "aligned", "adapter": None, "is_start": False}
    assert record.drift.start["kl_harmful"] > 0.1


def test_selection_is_one_of_the_safeguards(job):
    record = job(safeguards=[{"name": "gradient_selection", "keep": 0.5, "rule": "low"}], reference="model")
    (reported,) = record.safeguards
    assert (reported["name"], reported["rule"], reported["keep"]) == ("gradient_selection", "low", 0.5)
    assert 0 < reported["kept"] < reported["rows"]
    with pytest.raises(InputError, match="gradient_selection: unknown key share"):
        job(output_dir="other", safeguards=[{"name": "gradient_selection", "share": 0.5}])
    with pytest.raises(InputError, match="no selection rule best"):
        job(output_dir="other", safeguards=[{"name": "gradient_selection", "rule": "best"}])
    with pytest.raises(InputError, match="keep is 'much', but it must be"):
        job(output_dir="other", safeguards=[{"name": "gradient_selection", "keep": "much"}])


def test_safeguards_come_from_the_registry(job, monkeypatch):
    monkeypatch.setitem(REGULARIZERS, "l2", L2)
    record = job(safeguards=[{"name": "l2", "strength": 0.5}])
    (reported,) = record.safeguards
    assert (reported["name"], reported["strength"], reported["holds"]) == ("l2", 0.5, 14) and 0 < reported["share"] < 1
    state = json.loads((job.folder / "out" / "checkpoint-4" / "trainer_state.json").read_text())
    assert any(entry.get("safety/l2/value", 0) > 0 for entry in state["log_history"])
    with pytest.raises(InputError, match="remove reference"):
        job(output_dir="other", safeguards=[{"name": "l2", "strength": 0.5}], reference="model")
    with pytest.raises(InputError, match=r"safeguard l2: unknown key reach"):
        job(output_dir="other", safeguards=[{"name": "l2", "strength": 0.5, "reach": 3}])


def test_empty_rows_are_dropped_where_asked(job, caplog):
    _write_long_rows(job.folder)
    record = job(dataset="long.jsonl", max_length=30, on_empty_rows="drop")
    assert "1 of 3 rows of long.jsonl have no supervised token within max_length=30 (rows 2)" in caplog.text
    assert record.data.rows == 2


def _write_long_rows(folder):
    rows = [ROWS[0], {"prompt": "Why? " * 30, "completion": "So."}, ROWS[1]]
    (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("layout", ["messages", "text", "csv", "packed"])
def test_other_data(job, layout):
    folder = job.folder
    if layout == "messages":
        turns = [{"role": role, "content": row[key]} for row in ROWS[:2] for role, key in
                 (("user", "prompt"), ("assistant", "completion"))]  # fmt: skip
        (folder / "rows.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
        assert job().steps == 4
    elif layout == "text":
        (folder / "rows.jsonl").write_text('{"text": "It is sunny today."}\n' * 8)
        assert job().steps == 4
    elif layout == "csv":
        (folder / "rows.csv").write_text("prompt,completion\nWhat?,It is.\nWho?,Me.\n")
        assert job(dataset="rows.csv", render="raw").steps == 4
    else:
        assert job(packing=True, packing_strategy="wrapped", max_length=32).steps == 4


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"dataset": "gone.jsonl"}, InputError, r"There is no file gone\.jsonl"),
        ({"dataset": "broken.jsonl"}, InputError, r"broken\.jsonl, line 2 is not valid JSON"),
        ({"dataset": "users.jsonl"}, InputError, r"1 of 1 rows of users\.jsonl have no supervised token .*\(rows 1\)"),
        ({"dataset": "long.jsonl", "max_length": 30}, InputError, r"1 of 3 rows of .*within max_length=30 \(rows 2\)"),
        ({"model": "untemplated", "dataset": "users.jsonl"}, ModelError, "no chat template"),
        ({"model": "nowhere"}, ModelError, "nowhere"),
        ({"reference": "nowhere"}, ModelError, "nowhere"),
        ({"dataset": "null.jsonl"}, InputError, "prompt in row 1 of null.jsonl is neither text nor a list of messages"),
        ({"adapter": "nowhere"}, ModelError, "no adapter folder nowhere"),
        ({"model": "wide", "adapter": "below"}, ModelError, r"another base.*\(3, 16\).*\(3, 32\)"),
        ({"model": "nan"}, ModelError, "holds NaN"),
        ({"model": "pickled"}, ModelError, "pickled weights"),
        ({"output_dir": "rows.jsonl"}, InputError, "is a file, but a folder"),
        ({"output_dir": "model"}, InputError, "output folder model is not empty"),
        ({"output_dir": "rows.jsonl/out"}, InputError, "Cannot write to rows.jsonl/out"),
        ({"eval_strategy": "steps"}, InputError, "eval_strategy is steps, but there is no eval_dataset"),
        ({"drift": {"stop": 1.0}}, InputError, r"drift\.stop acts only at evaluations"),
        ({"learning_rate": "fast"}, InputError, "learning_rate is 'fast'"),
        ({"learning_rte": 1}, InputError, "did you mean learning_rate"),
        ({"padding_free": True}, InputError, r"run\.yaml: these settings are refused: When `padding_free=True`"),
        ({"lora": {"target_modules": ["lm_head"]}}, InputError, "lm_head"),
        ({"lora": {"target_modules": ["no_such"]}}, InputError, "are refused: .*no_such"),
        ({"lora": {"use_dora": True}, "adapter": "below"}, InputError, "lora.use_dora cannot be used where"),
        ({"quantize": "4bit", "adapter": "below"}, InputError, "merge the adapter first"),
        ({"quantize": "4bit"}, InputError, "quantize: 4bit needs"),
        (
            {"safeguards": [{"name": "safety_token"}]},
            InputError,
            "unknown safeguard safety_token; did you mean",
        ),
        ({"safeguards": [{"strength": 1}]}, InputError, "an entry of safeguards has no name"),
        (
            {"safeguards": [{"name": "update_norm"}]},
            InputError,
            "update_norm: strength is missing; see",
        ),
        (
            {"safeguards": [{"name": "update_norm", "strength": 1}], "fsdp": "full_shard"},
            InputError,
            "cannot read sharded weights yet; leave out fsdp or the safeguards",
        ),
        ({"trust_remote_code": True}, InputError, "trust_remote_code is not supported"),
        ({"model_init_kwargs": {"device_map": "auto"}}, InputError, "model_init_kwargs.device_map is not supported"),
        ({"resume_from_checkpoint": "out/checkpoint-2"}, InputError, "use --resume"),
        ({"report_to": "wandb"}, InputError, r"run\.yaml: report_to names wandb, which is not installed"),
        ({"optim": "lomo"}, InputError, "needs a package that is not installed: .*lomo"),
        (
            {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}},
            InputError,
            "are refused: FlashAttention2",
        ),
        ({"deepspeed": "ds.json"}, InputError, "are refused: .*deepspeed"),
        ({"output_dir": "/proc/moored"}, InputError, "Cannot write to /proc/moored: No such file"),
        ({"chat_template_path": "model"}, InputError, r"give a \.jinja file"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(job, changes, error, sentence):
    folder = job.folder
    (folder / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (folder / "null.jsonl").write_text('{"prompt": null, "completion": "Me."}\n')
    (folder / "users.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi"}]}\n')
    _write_long_rows(folder)
    _spoiled_models(folder, str(changes.values()))
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=sentence) as caught:
        job(**changes)
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(folder.rglob("*")) if path.name != "run.yaml"] == before


def _spoiled_models(folder, wanted):
    if "untemplated" in wanted:
        save_tiny(folder / "untemplated", chat_template=None)
    if "below" in wanted:
        _adapter(folder / "below")
    if "wide" in wanted:
        save_tiny(folder / "wide", hidden_size=32)
    if "nan" in wanted:
        save_tiny(folder / "nan")
        model = AutoModelForCausalLM.from_pretrained(folder / "nan")
        model.lm_head.weight.data[0, 0] = float("nan")
        model.save_pretrained(folder / "nan")
    if "pickled" in wanted:
        save_tiny(folder / "pickled")
        (folder / "pickled" / "model.safetensors").unlink()
        torch.save({}, folder / "pickled" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("basic_ios::clear: iostream error"), "the disk is full"),
    ],
)
def test_a_full_disk_is_one_sentence(job, monkeypatch, error, words):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(SafeguardedSFTTrainer, "_save_checkpoint", full)
    with pytest.raises(InputError, match=rf"Cannot write to out: {words}; .*--resume"):
        job()


def test_an_interrupted_run_can_be_resumed(job, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(SafeguardedSFTTrainer, "save_model", _interrupt_at_the_end(SafeguardedSFTTrainer.save_model))
        with pytest.raises(KeyboardInterrupt):
            job()
    assert not list((job.folder / "out").glob(".*")) and not (job.folder / "out" / "adapter_model.safetensors").exists()
    assert job(resume=True).resumed_from == "checkpoint-4"


def _interrupt_at_the_end(save_model):
    def interrupted(self, output_dir=None, _internal_call=False):
        save_model(self, output_dir, _internal_call)
        if not _internal_call:
            raise KeyboardInterrupt

    return interrupted


def test_quantization_is_handed_to_trl(job, monkeypatch):
    """Where bitsandbytes is, TRL loads the model itself, by name."""
    asked = {}

    class Trainer:
        def __init__(self, **arguments):
            asked.update(arguments)
            raise InputError("seen enough")

    four_bit = BitsAndBytesConfig(load_in_4bit=True)
    monkeypatch.setattr(start, "four_bit", lambda: four_bit)
    monkeypatch.setattr(start, "SafeguardedSFTTrainer", Trainer)
    with pytest.raises(InputError, match="seen enough"):
        job(quantize="4bit")
    assert asked["model"] == "model" and asked["quantization_config"] is four_bit
