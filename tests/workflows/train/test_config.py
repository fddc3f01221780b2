import pytest

from moored.errors import InputError
from moored.workflows.train.config import DriftConfig, read_config

LEAST = "model: m\ndataset: d.jsonl\noutput_dir: out\n"


@pytest.fixture
def config(tmp_path):
    def write(text, *overrides):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        return read_config(file, overrides)

    return write


def test_ours_and_trls_keys_stand_side_by_side(config):
    read = config(LEAST + "learning_rate: 1e-4\nmax_steps: 3\nrender: raw\nlora: {r: 4}\neval_strategy: 'no'\n")
    assert (read.model, read.render, read.lora) == ("m", "raw", {"r": 4})
    assert read.trl == {"output_dir": "out", "learning_rate": "1e-4", "max_steps": 3, "eval_strategy": "no"}


def test_defaults(config):
    read = config(LEAST)
    assert read.lora == {} and read.drift is None and read.safeguards == [] and read.reference is None
    assert config(LEAST + "lora: null").lora is None


@pytest.mark.parametrize(("text", "expected"), [("true", DriftConfig()), ("false", None), ("null", None)])
def test_drift_may_be_a_switch(config, text, expected):
    assert config(LEAST + f"drift: {text}").drift == expected
    assert config(LEAST + "drift: {stop: 2, prompts: p.jsonl}").drift == DriftConfig(stop=2.0, prompts="p.jsonl")


def test_the_command_line_lays_over_the_file(config):
    read = config(LEAST + "lora: {r: 4}\n", "lora.r=8", "drift.stop=1.5", "seed=7", "model=other", "lora.lora_alpha=16")
    assert read.lora == {"r": 8, "lora_alpha": 16} and read.trl["seed"] == 7 and read.model == "other"
    assert read.drift == DriftConfig(stop=1.5)
    assert config(LEAST, "lora=null").lora is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LEAST + "learning_rat: 1", "unknown key learning_rat; did you mean learning_rate?"),
        (LEAST + "rendre: raw", "unknown key rendre; did you mean render?"),
        (LEAST + "drift: {stopp: 1}", "drift: unknown key stopp; did you mean stop?"),
        (LEAST + "model_name_or_path: x", "the key model_name_or_path is called model here"),
        (LEAST + "lora_r: 8", r"the key lora_r is called lora: \{r: …\} here"),
        (LEAST + "render: chatty", "render is 'chatty', but it must be chat, raw"),
        (LEAST + "safeguards: [l2]", r"safeguards is \['l2'\], but it must be a list of mappings"),
        (LEAST + "drift: {limit: many}", "limit is 'many', but it must be a whole number"),
        ("model: m\ndataset: d\n", "output_dir is missing"),
        ("model: m\n  dataset: d\n", "run.yaml: line 2 is not valid YAML"),
        (LEAST + "max_steps: 1\nmax_steps: 2\n", "run.yaml: line 5 is not valid YAML .max_steps is given twice"),
        (LEAST + "lora: {r: 1, r: 2}\n", "line 4 .*r is given twice"),
        (LEAST + "seed: \x07\n", "is not valid YAML .unacceptable character.*position"),
        ("- model\n", "must be `key: value` pairs"),
        ("", "must be `key: value` pairs"),
    ],
)
def test_a_bad_file_is_one_sentence(config, text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        config(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["seed", "=3", "model.x=1"])
def test_a_bad_override_is_one_sentence(config, override):
    with pytest.raises(InputError, match="--set"):
        config(LEAST, override)
