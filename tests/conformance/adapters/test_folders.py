"""Folders as trainers leave them, through the commands as a user types them."""

import json
import shutil

import pytest
from datasets import Dataset
from tests.conformance.adapters.kinds import Trained, Ways, assert_near, logits_of, lora, plain, quietly, shake
from tests.conformance.cases import case
from tests.tiny import tiny_arguments, tiny_tokenizer

from moored.errors import InputError, ModelError
from moored.huggingface.models import load_model
from moored.workflows.inputs.load import load
from moored.workflows.inputs.models import resolve_model
from moored.workflows.measure.run import measure
from moored.workflows.train.plan import prepare
from moored.workflows.train.settings import TrainSettings

_SMALL = {"limit": 2, "max_new_tokens": 3, "task": "none", "drift_prompts": 2}


def _named_base(trained, folder):
    """The adapter in a folder that names its base, as trainers write it."""
    shutil.copytree(trained.adapter, folder, dirs_exist_ok=True)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(trained.base)}))
    return folder


def _axolotl(trained, folder):
    shutil.copytree(trained.base, folder / "merged")
    for name in ("config.json", "generation_config.json"):
        shutil.copyfile(trained.base / name, folder / name)
    tiny_tokenizer().save_pretrained(folder)


def _bare(trained, folder):
    """PEFT's own two files."""


def _with_tokenizer(trained, folder):
    tiny_tokenizer().save_pretrained(folder)


@pytest.mark.parametrize(
    "beside",
    [
        case("PEFT's folder, named as the model", _bare),
        case("a folder with its tokenizer, named as the model", _with_tokenizer),
        case("axolotl's folder (config.json and merged/ beside it)", _axolotl),
    ],
)
def test_a_folder_stands_for_its_base_with_it(shelf, tmp_path, beside):
    trained = shelf.train("llama", lora())
    folder = _named_base(trained, tmp_path / "adapter")
    beside(trained, folder)
    source = resolve_model(str(folder))
    assert (source.path, source.adapter) == (str(trained.base), folder)
    with quietly():
        assert_near(logits_of(load_model(source, merge=True)), trained.logits)
        report = measure(str(folder), **_SMALL)
    assert report.against.model.path == str(trained.base)


@pytest.mark.parametrize("checkpoint", [case("a TRL run", "."), case("a checkpoint of a TRL run", "checkpoint-2")])
def test_a_run_of_trl_reads_as_it_was_trained(shelf, tmp_path, monkeypatch, checkpoint):
    from trl.trainer.sft_trainer import SFTTrainer

    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It is sunny today."}]
    rows = Dataset.from_list([{"messages": messages}] * 8)
    arguments = tiny_arguments(
        tmp_path / "run", max_steps=2, save_steps=2, save_strategy="steps", learning_rate=0.05, logging_steps=1
    )
    with quietly():
        trainer = SFTTrainer(
            model=plain(shelf.base("llama")),
            args=arguments,
            train_dataset=rows,
            processing_class=tiny_tokenizer(),
            peft_config=lora()(),
        )
        shake(trainer.model)
        trainer.train()
        trainer.save_model(str(tmp_path / "run"))
        adapter = tmp_path / "run" / checkpoint
        trained = Trained(base=shelf.base("llama"), adapter=adapter, logits=logits_of(trainer.model))
        Ways(trained, tmp_path).all(None, monkeypatch)


def _training_file(folder, trained):
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "Hi", "completion": "It is sunny today."}) + "\n")
    file = folder / "train.yaml"
    settings = {"model": str(trained.base), "adapter": str(trained.adapter), "dataset": str(rows)}
    file.write_text(json.dumps({**settings, "output_dir": str(folder / "run"), "max_steps": 1, "bf16": False}))
    return file


@pytest.mark.parametrize(
    ("config", "match"),
    [
        case("training on top of a plain LoRA", lora(), None),
        case(
            "training on top of DoRA",
            lora(use_dora=True),
            r"more than a plain LoRA \(.*use_dora",
            outcome="refused",
        ),
        case(
            "training on top of a whole head",
            lora(modules_to_save=["lm_head"]),
            r"more than a plain LoRA \(lm_head\.weight",
            outcome="refused",
        ),
        case("training on top of aLoRA", lora(alora_invocation_tokens=[5]), "acts only after", outcome="refused"),
        case("training on top of pissa", lora(init_lora_weights="pissa"), "initialized by pissa", outcome="refused"),
    ],
)
def test_training_on_top_begins_or_is_refused(shelf, tmp_path, config, match):
    trained = shelf.train("llama", config)
    settings = TrainSettings(config=_training_file(tmp_path, trained))
    with quietly():
        if match is None:
            prepare(settings)
            return
        with pytest.raises((InputError, ModelError), match=match):
            prepare(settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "config",
    [case("moored.load of lora_bias on layers without a bias", lora(lora_bias=True), outcome="refused", fast=True)],
)
def test_biases_that_no_checkpoint_holds_are_not_trained_on(shelf, config):
    trained = shelf.train("llama", config)
    with quietly(), pytest.raises(ModelError, match=r"has biases \(lora_bias\) where the weights under it have none"):
        load(str(trained.base), adapter=trained.adapter)
