import pytest

from moored.errors import InputError
from moored.huggingface.training import arguments
from moored.huggingface.training.arguments import four_bit, sft_config


def test_what_trl_refuses_is_one_sentence():
    with pytest.raises(InputError, match=r"settings are refused: .*nowhere"):
        sft_config({"output_dir": "x", "bf16": False, "lr_scheduler_type": "nowhere"})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", -1),
        ("learning_rate", ".nan"),
        ("learning_rate", "1e400"),
        ("per_device_train_batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("max_length", -5),
    ],
)
def test_what_would_fail_once_the_run_has_begun_is_refused_before(setting, value):
    with pytest.raises(InputError, match=f"{setting} is .*, but it must be a number of . or more"):
        sft_config({"output_dir": "x", "bf16": False, setting: value if value != ".nan" else float("nan")})


def test_pushing_to_the_hub_needs_the_network(monkeypatch):
    monkeypatch.setattr(arguments, "is_offline_mode", lambda: True)
    with pytest.raises(InputError, match="push_to_hub needs the network, which HF_HUB_OFFLINE=1 forbids"):
        sft_config({"output_dir": "x", "bf16": False, "push_to_hub": True})


def test_bf16_is_off_without_an_accelerator_and_that_is_said(monkeypatch, caplog):
    monkeypatch.setattr(arguments.torch.accelerator, "is_available", lambda: False)
    made = sft_config({"output_dir": "x"})
    assert made.bf16 is False and "bf16 is off" in caplog.text
    assert made.activation_checkpointing is True
    with pytest.raises(InputError, match="bf16"):
        sft_config({"output_dir": "x", "bf16": True})


def test_what_is_stated_is_kept(caplog):
    made = sft_config({"output_dir": "x", "use_cpu": True, "bf16": True, "activation_checkpointing": False})
    assert made.bf16 is True and made.activation_checkpointing is False and not caplog.text


def test_four_bit_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(arguments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package bitsandbytes"):
        four_bit()
    monkeypatch.setattr(arguments.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(arguments.torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match="needs a GPU"):
        four_bit()
