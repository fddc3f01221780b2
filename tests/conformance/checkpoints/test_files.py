"""Checkpoints as other tools and hands leave them: read as transformers reads them and written whole, or refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tests.conformance.architectures.oracles import PROMPTS, ids_of, logits_of
from tests.conformance.architectures.repairs import STEP, headers, repaired
from tests.conformance.cases import case
from tests.conformance.checkpoints.edits import (
    FILE,
    INDEX,
    both,
    config,
    file,
    index,
    more,
    renamed,
    saved,
    tensors,
    without,
)
from tests.workflows.files import digests
from transformers import AutoModelForCausalLM

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load_model
from moored.recovery import LinearPull
from moored.workflows.inputs.models import chat_model
from moored.workflows.recover.run import repair

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries, on odd files.
SHARDS = {"max_shard_size": "20KB"}


def _in_folders(folder):
    """The shards of a checkpoint, each in a folder of its own."""
    found = json.loads((folder / INDEX).read_text())
    for number, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        (folder / f"part{number}").mkdir()
        shutil.move(shard, folder / f"part{number}" / shard.name)
        places = found["weight_map"]
        found["weight_map"] = {k: f"part{number}/{v}" if v == shard.name else v for k, v in places.items()}
    (folder / INDEX).write_text(json.dumps(found))


def _headless(name):
    return name.removeprefix("transformer.")


def _head_of_its_own(old):
    return {**old, "lm_head.weight": torch.randn(384, 16, generator=torch.Generator().manual_seed(3))}


def _no_edit(folder):
    pass


WORKING = [
    case("one file", "llama", {}, _no_edit),
    case("shards", "llama", SHARDS, _no_edit),
    case("shards in subfolders", "llama", SHARDS, _in_folders, fast=True),
    case("one file in a subfolder", "llama", {}, index("weights/all.safetensors")),
    case("fp16", "llama", {"dtype": torch.float16}, _no_edit),
    case("bf16", "llama", {"dtype": torch.bfloat16}, _no_edit),
    case("fp64", "llama", {"dtype": torch.float64}, _no_edit),
    case(
        "bf16 with norms in fp32",
        "llama",
        {"dtype": torch.bfloat16},
        tensors(lambda old: {name: t.float() if "norm" in name else t for name, t in old.items()}),
    ),
    case("tied head", "gemma", {}, _no_edit),
    case(
        "tied head, repeated in the file",
        "gemma",
        {},
        tensors(lambda old: {**old, "lm_head.weight": old["model.embed_tokens.weight"]}),
        fast=True,
    ),
    case("tied in config.json, and two different tensors in the file", "gemma", {}, tensors(_head_of_its_own)),
    case(
        "untied, and head and embedding equal",
        "llama",
        {},
        tensors(lambda old: {**old, "lm_head.weight": old["model.embed_tokens.weight"]}),
    ),
    case("experts one by one", "mixtral", {}, _no_edit),
    case("experts one by one, in shards", "mixtral", SHARDS, _no_edit, fast=True),
    case("GPT-2", "gpt2", {}, _no_edit),
    case("GPT-2 with its old names", "gpt2", {}, renamed(_headless), fast=True),
    case(
        "GPT-2 with its old names and masks",
        "gpt2",
        {},
        both(
            renamed(_headless),
            more(h__0__attn__masked_bias=torch.tensor(-1e4), h__0__attn__bias=torch.ones(1, 1, 4, 4)),
        ),
    ),
    case("Llama without the model's prefix", "llama", {}, renamed(lambda name: name.removeprefix("model."))),
    case(
        "stored frequencies of rotary embeddings",
        "llama",
        {},
        more(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4)),
    ),
    case(
        "a value head",
        "llama",
        {},
        more(v_head__summary__weight=torch.ones(1, 16), v_head__summary__bias=torch.ones(1)),
        fast=True,
    ),
    case("a reward head", "llama", {}, more(score__weight=torch.ones(1, 16))),
    case("a vision tower", "llama", {}, more(vision_tower__blocks__0__weight=torch.ones(4, 4)), fast=True),
    case("layers for multi-token prediction, mtp.*", "llama", {}, more(mtp__layers__0__fc__weight=torch.ones(4, 4))),
    case("a tensor of integers beside", "llama", {}, more(steps__taken=torch.tensor([3]))),
    case("a tensor of booleans beside", "llama", {}, more(mask=torch.tensor([True]))),
    case(
        "consolidated.safetensors beside",
        "llama",
        {},
        lambda folder: shutil.copy(folder / FILE, folder / "consolidated.safetensors"),
    ),
    case(
        "an old index beside the one file",
        "llama",
        {},
        file(INDEX, b'{"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}'),
    ),
    case("generation_config.json that samples", "llama", {}, config("generation_config.json", do_sample=True, top_k=5)),
    case("sampling in config.json", "llama", {}, config(temperature=0.6, do_sample=True)),
    case(
        "generation_config.json that contradicts itself",
        "llama",
        {},
        config("generation_config.json", do_sample=False, temperature=0.5, top_p=0.9),
    ),
    case(
        "code of its own for a known architecture",
        "llama",
        {},
        config(auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}),
        note="the code is not run",
    ),
    case("pickled weights beside", "llama", {}, file("pytorch_model.bin", b"no pickle"), note="they are not read"),
    case("a GGUF file beside", "llama", {}, file("model.gguf", b"GGUF"), note="it is not read"),
    case("the optimizer's state beside", "llama", {}, file("optimizer.pt", b"no pickle"), note="it is not copied"),
]


@pytest.mark.parametrize(("kind", "how", "edit"), WORKING)
def test_a_checkpoint_is_read_and_repaired_whole(tmp_path, monkeypatch, kind, how, edit):
    start, aligned = saved(tmp_path / "start", kind, **how), saved(tmp_path / "aligned", kind, seed=7, **how)
    edit(start)
    before, ids = digests(start), ids_of(PROMPTS[1])
    plain = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32).eval()
    read = load_model(ModelSource(str(start)))
    torch.testing.assert_close(logits_of(read, ids), logits_of(plain, ids), rtol=0, atol=0)
    memory = repaired(monkeypatch, STEP, start, out=tmp_path / "steps")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "steps", dtype=torch.float32).eval()
    torch.testing.assert_close(logits_of(again, ids), logits_of(memory, ids), rtol=1e-5, atol=1e-4)
    assert not torch.allclose(logits_of(again, ids), logits_of(plain, ids), atol=1e-3)
    repair(LinearPull(share=0.5), str(start), against=str(aligned), out=tmp_path / "formula")
    for out in ("steps", "formula"):
        assert headers(tmp_path / out) == {k: v for k, v in headers(start).items() if k in _loaded(start)}
    assert digests(start) == before


def _loaded(folder):
    """The names in the files that are loaded."""
    if (folder / FILE).is_file():
        return load_file(folder / FILE)
    return json.loads((folder / INDEX).read_text())["weight_map"]


WRAPPED = "carry the prefix of a wrapper"
REFUSED = [
    case("names of torch.compile", WRAPPED, renamed(lambda name: "_orig_mod." + name), outcome="refused", fast=True),
    case("names of DistributedDataParallel", WRAPPED, renamed(lambda name: "module." + name), outcome="refused"),
    case(
        "names of FSDP",
        WRAPPED,
        renamed(lambda name: name.replace(".0.", ".0._fsdp_wrapped_module.")),
        outcome="refused",
    ),
    case(
        "names of activation checkpointing",
        WRAPPED,
        renamed(lambda name: name.replace(".0.", ".0._checkpoint_wrapped_module.")),
        outcome="refused",
    ),
    case(
        "names of PEFT, unmerged",
        WRAPPED,
        renamed(lambda name: name.replace("q_proj.", "q_proj.base_layer.")),
        outcome="refused",
    ),
    case(
        "an index that leaves the folder",
        "is no safetensors file inside its folder",
        index("../x.safetensors"),
        outcome="refused",
        fast=True,
    ),
    case(
        "an index with an absolute path",
        "is no safetensors file inside its folder",
        index("/x.safetensors", moved=False),
        outcome="refused",
    ),
    case(
        "an index that names a pickle",
        "is no safetensors file inside its folder",
        index("x.bin", moved=False),
        outcome="refused",
        fast=True,
    ),
    case(
        "an index that names what is missing",
        "lacks x.safetensors, which its index names",
        index("x.safetensors", moved=False),
        outcome="refused",
    ),
    case(
        "an index that is no JSON", "is no index of weights", both(without(FILE), file(INDEX, b"{")), outcome="refused"
    ),
    case(
        "an index without metadata",
        "is no index of weights",
        both(without(FILE), file(INDEX, b'{"weight_map": {}}')),
        outcome="refused",
    ),
    case(
        "pickled weights alone",
        "holds no .* but pickled weights",
        lambda folder: (folder / FILE).rename(folder / "pytorch_model.bin"),
        outcome="refused",
    ),
    case(
        "weights of another name",
        "but other.safetensors, which is not read",
        lambda folder: (folder / FILE).rename(folder / "other.safetensors"),
        outcome="refused",
    ),
    case(
        "config.json that names a file of its own",
        "names its own weight file",
        config(transformers_weights="x.safetensors"),
        outcome="refused",
    ),
    case("no weights", "holds no model.safetensors", without(FILE), outcome="refused"),
    case("no config.json", "Cannot load", without("config.json"), outcome="refused"),
    case("config.json that is no JSON", "Cannot load", file("config.json", b"{"), outcome="refused"),
    case("config.json of another type", "Cannot load", file("config.json", b"[]"), outcome="refused"),
    case(
        "a damaged file",
        "safetensors file|deserializing",
        file(FILE, b"\x08\x00\x00\x00\x00\x00\x00\x00{"),
        outcome="refused",
    ),
    case(
        "a cut file",
        "safetensors file|deserializing",
        lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:-64]),
        outcome="refused",
    ),
    case(
        "NaN",
        "holds NaN or infinity",
        tensors(lambda old: {**old, "model.norm.weight": torch.full((16,), float("nan"))}),
        outcome="refused",
    ),
    case(
        "infinity",
        "holds NaN or infinity",
        tensors(lambda old: {**old, "model.norm.weight": torch.full((16,), float("inf"))}),
        outcome="refused",
    ),
    case(
        "no head",
        "lacks 1 weights",
        tensors(lambda old: {k: v for k, v in old.items() if "lm_head" not in k}),
        outcome="refused",
    ),
    case(
        "more layers than config.json says",
        "belongs to a layer that its config.json does not name",
        config(num_hidden_layers=1),
        outcome="refused",
        fast=True,
    ),
    case(
        "layers, and none in config.json",
        "belongs to a layer|Cannot load",
        config(num_hidden_layers=0),
        outcome="refused",
    ),
    case("fewer layers than config.json says", "lacks 9 weights", config(num_hidden_layers=3), outcome="refused"),
    case(
        "other widths than config.json says",
        "do not fit its config.json",
        config(intermediate_size=24),
        outcome="refused",
    ),
    case(
        "an architecture that transformers does not know",
        "Cannot load|program code of its own",
        config(model_type="homemade"),
        outcome="refused",
    ),
    case(
        "code of its own for an unknown architecture",
        "needs program code of its own",
        config(model_type="homemade", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}),
        outcome="refused",
        fast=True,
    ),
    case("an image model", "has no causal language model", config(model_type="vit"), outcome="refused"),
    case("a text encoder-decoder", "has no causal language model", config(model_type="t5"), outcome="refused"),
    case(
        "an adapter's folder",
        "is an adapter|names no base model|holds no adapter_model.safetensors but model.safetensors",
        file("adapter_config.json", b'{"peft_type": "LORA"}'),
        outcome="refused",
    ),
    case(
        "GGUF alone",
        "is in the GGUF format",
        both(without(FILE), file("model.gguf", b"GGUF")),
        outcome="refused",
        fast=True,
    ),
]


@pytest.mark.parametrize(("sentence", "edit"), REFUSED)
def test_a_checkpoint_is_refused_in_one_sentence(tmp_path, sentence, edit):
    start, aligned = saved(tmp_path / "start"), saved(tmp_path / "aligned", seed=7)
    edit(start)
    before = digests(tmp_path)
    for attempt in (
        lambda: load_model(ModelSource(str(start))),
        lambda: repair(STEP, str(start), out=tmp_path / "out"),
        lambda: repair(LinearPull(share=0.5), str(start), against=str(aligned), out=tmp_path / "out"),
    ):
        with pytest.raises(ModelError, match=sentence) as raised:
            attempt()
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert digests(tmp_path) == before


@pytest.mark.parametrize("ask", [case("a GGUF file", "model.gguf", outcome="refused", fast=True)])
def test_a_gguf_file_as_the_model(tmp_path, ask):
    (tmp_path / ask).write_bytes(b"GGUF")
    for attempt in (chat_model, lambda name: load_model(ModelSource(name))):
        with pytest.raises(ModelError, match=r"is in the GGUF format of llama\.cpp"):
            attempt(str(tmp_path / ask))
