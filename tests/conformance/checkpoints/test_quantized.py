"""Quantized checkpoints: read where their package is there, an adapter over them repaired, and else refused by name."""

import json
from importlib.util import find_spec

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tests.conformance.architectures.oracles import PROMPTS, ids_of, logits_of, with_lora
from tests.conformance.architectures.repairs import STEP, headers, repaired
from tests.conformance.cases import case
from tests.tiny import SIZES, tiny_tokenizer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, TorchAoConfig

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load_model, require_fit
from moored.recovery import LinearPull
from moored.workflows.recover.run import repair

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries.
BLOCK = 32
MOVED = "is quantized, so its weights cannot be moved"


def _plain(folder):
    """A model whose matrices are large enough for blocks of 32."""
    sizes = {**SIZES, "hidden_size": 64, "intermediate_size": 128, "head_dim": 32, "initializer_range": 0.1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _states(folder, **stated):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"quantization_config": stated, "dtype": "bfloat16"}))


def _fp8(folder):
    """Blocks in 8-bit floats with their scales, as DeepSeek and Qwen publish them."""
    new = {}
    for name, weight in load_file(_plain(folder) / "model.safetensors").items():
        new[name] = weight.bfloat16()
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            blocks = weight.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
            scales = blocks.abs().amax((1, 3)) / 448
            codes = (blocks / scales[:, None, :, None]).view(rows, columns)
            new |= {name: codes.to(torch.float8_e4m3fn), f"{name}_scale_inv": scales.contiguous()}
    save_file(new, folder / "model.safetensors", metadata={"format": "pt"})
    sizes = {"weight_block_size": [BLOCK, BLOCK], "modules_to_not_convert": ["lm_head"]}
    _states(folder, quant_method="fp8", activation_scheme="dynamic", **sizes)


def _quantized(config):
    def build(folder):
        plain = _plain(folder.with_name("plain"))
        AutoModelForCausalLM.from_pretrained(plain, quantization_config=config()).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)

    return build


def _torchao():
    from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]

    return TorchAoConfig(Int8WeightOnlyConfig())


READ = [
    case("FP8 in blocks", None, _fp8, note="without a GPU, transformers turns it into bf16", fast=True),
    case("bitsandbytes, 4 bit", "bitsandbytes", _quantized(lambda: BitsAndBytesConfig(load_in_4bit=True))),
    case("bitsandbytes, 8 bit", "bitsandbytes", _quantized(lambda: BitsAndBytesConfig(load_in_8bit=True))),
    case("torchao, int8", "torchao", _quantized(_torchao)),
]


@pytest.mark.parametrize(("package", "build"), READ)
def test_a_quantized_checkpoint_is_read_and_an_adapter_over_it_repaired(tmp_path, monkeypatch, package, build):
    if package is not None and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    start, adapter, out = (tmp_path / name for name in ("start", "adapter", "out"))
    build(start)
    ids = ids_of(PROMPTS[1])
    plain = AutoModelForCausalLM.from_pretrained(start).eval()
    expected = logits_of(plain, ids)
    require_fit(ModelSource(str(start)))
    torch.testing.assert_close(
        logits_of(load_model(ModelSource(str(start)), dtype="auto", merge=True), ids), expected, rtol=0.05, atol=0.1
    )
    for method, against in ((STEP, {}), (LinearPull(share=0.5), {"against": str(start)})):
        with pytest.raises(ModelError, match=MOVED):
            repair(method, str(start), out=out, **against)
    adapted = with_lora(AutoModelForCausalLM.from_pretrained(start))
    adapted.save_pretrained(adapter)
    merged = load_model(ModelSource(str(start), adapter), dtype="auto", merge=True)
    torch.testing.assert_close(logits_of(merged, ids), logits_of(adapted, ids), rtol=0.05, atol=0.3)
    memory = repaired(monkeypatch, STEP, start, adapter=adapter, out=out)
    # The factors rather than logits: bitsandbytes computes otherwise on a CPU once gradients are off.
    factors = get_peft_model_state_dict(memory)
    written, before = (load_file(folder / "adapter_model.safetensors") for folder in (out, adapter))
    for name, factor in written.items():
        torch.testing.assert_close(factor, factors[name].to(factor.dtype), rtol=0, atol=0)
    assert any(not torch.equal(factor, before[name]) for name, factor in written.items())
    assert headers(out) == headers(adapter)


def _missing(method, names, **stated):
    return case(method, names, {"quant_method": method, **stated}, outcome="refused", fast=method in ("gptq", "hqq"))


ABSENT = [
    _missing("aqlm", "aqlm", in_group_size=8, out_group_size=1, num_codebooks=1, nbits_per_codebook=16),
    _missing("auto-round", "auto-round", bits=4, group_size=32),
    _missing("awq", "gptqmodel", bits=4, group_size=32, version="gemm", zero_point=True),
    _missing("bitsandbytes", "bitsandbytes", load_in_4bit=True),
    _missing("compressed-tensors", "compressed-tensors", format="pack-quantized", config_groups={}),
    _missing("eetq", "kernels", weights="int8"),
    _missing("fbgemm_fp8", "GPU"),
    _missing("fp_quant", "GPU"),
    _missing("gptq", "optimum", bits=4, group_size=32, desc_act=False),
    _missing("higgs", "GPU"),
    _missing("hqq", "HQQ", quant_config={"weight_quant_params": {"nbits": 4, "group_size": 64}}),
    _missing("quanto", "optimum-quanto", weights="int8"),
    _missing("quark", "Quark"),
    _missing("spqr", "GPU"),
    _missing("torchao", "torchao", quant_type="int8_weight_only"),
    _missing("vptq", "VPTQ"),
]


@pytest.mark.parametrize(("names", "stated"), ABSENT)
def test_what_a_quantized_checkpoint_lacks_is_named_before_anything_long(tmp_path, names, stated):
    package = {"bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed_tensors", "torchao": "torchao"}
    installed = package.get(stated["quant_method"])
    if torch.accelerator.is_available() or (installed and find_spec(installed)):
        pytest.skip("it can be read here")
    _states(_plain(tmp_path), **stated)
    for check in (require_fit, load_model):
        with pytest.raises(ModelError, match=rf"is quantized and cannot be read here: .*{names}.*") as raised:
            check(ModelSource(str(tmp_path)))
        assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match=MOVED):
        repair(STEP, str(tmp_path), out=tmp_path / "out")


@pytest.mark.parametrize("stated", [case("quantization_config that is no object", "text", outcome="refused")])
def test_a_damaged_quantization_is_refused(tmp_path, stated):
    settings = json.loads((_plain(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"quantization_config": stated}))
    for check in (require_fit, load_model):
        with pytest.raises(ModelError, match="Cannot load"):
            check(ModelSource(str(tmp_path)))
