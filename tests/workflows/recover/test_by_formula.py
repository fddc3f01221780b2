"""Repairs by a formula, against dense arithmetic on the merged models."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import KINDS, save_tiny, tiny_model, tiny_tokenizer
from tests.workflows.files import digests
from transformers import GPT2Config, GPT2LMHeadModel

from moored.errors import InactiveError, InputError, ModelError
from moored.huggingface.models import ModelSource, adapter_updates, iterate_weights, load_model, stack_adapters
from moored.recovery import LinearPull, OneShot, SafeLora
from moored.workflows.recover.run import repair

EVERY = SafeLora(threshold=1.0)


def _merged(base, adapter=None):
    return {
        name: weight.detach()
        for name, weight in load_model(ModelSource(str(base), adapter), merge=True).named_parameters()
    }


@pytest.fixture(params=KINDS)
def stacked(request, tmp_path):
    """A base, an adapter that aligns it, and one adapter that is that and a fine-tune together."""
    kind = request.param
    base = save_tiny(tmp_path / "base", kind)
    aligned = save_adapter(tmp_path / "aligned", kind, dtype=torch.bfloat16, base=str(base))
    more = save_adapter(tmp_path / "more", kind, seed=1, base=str(base), target_modules=["q_proj", "o_proj"])
    stack_adapters(aligned, more, tmp_path / "tuned")
    return base, aligned, tmp_path / "tuned"


def _dense_safe_lora(tuned, aligned, base):
    found = {}
    for name, weight in tuned.items():
        v, update = aligned[name] - base[name], weight - aligned[name]
        found[name] = weight
        if v.ndim == 2 and v.any() and update.any():
            found[name] = aligned[name] + v @ v.T / v.norm() @ update
    return found


def test_safe_lora_is_the_dense_formula_and_gives_one_adapter(tmp_path, stacked):
    base, aligned, tuned = stacked
    before = digests(base), digests(aligned), digests(tuned)
    report = repair(EVERY, str(base), adapter=tuned, against=str(aligned), base=str(base), out=tmp_path / "out")
    assert (digests(base), digests(aligned), digests(tuned)) == before
    want = _dense_safe_lora(_merged(base, tuned), _merged(base, aligned), _merged(base))
    got = _merged(base, tmp_path / "out")
    for name, weight in want.items():
        torch.testing.assert_close(got[name], weight, rtol=1e-4, atol=1e-5)
    changed = {weight.name for weight in report.updates.weights if weight.changed}
    # Where alignment moved nothing there is no direction; where the fine-tune moved nothing, no update.
    assert changed == {name for name in want if "q_proj.weight" in name}
    assert report.updates.changed == 2 and report.updates.of == 8


def test_a_linear_pull_is_the_mean_of_the_merged_models(tmp_path, stacked):
    base, aligned, tuned = stacked
    report = repair(LinearPull(share=0.25), str(base), adapter=tuned, against=str(aligned), out=tmp_path / "out")
    start, end, got = (_merged(base, each) for each in (tuned, aligned, tmp_path / "out"))
    for name, weight in got.items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * end[name], rtol=1e-4, atol=1e-5)
    assert report.updates.kept == pytest.approx(0.75)


def test_no_more_ranks_are_written_than_the_sum_has(tmp_path):
    base = save_tiny(tmp_path / "base")
    aligned, tuned = (save_adapter(tmp_path / str(seed), seed=seed, base=str(base)) for seed in (0, 1))
    repair(LinearPull(), str(base), adapter=tuned, against=str(aligned), out=tmp_path / "out")
    factors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {min(tensor.shape) for tensor in factors.values()} == {4}


def test_what_is_not_changed_keeps_its_factors(tmp_path, stacked):
    base, aligned, tuned = stacked
    repair(EVERY, str(base), adapter=tuned, against=str(aligned), base=str(base), out=tmp_path / "out")
    old, new = (adapter_updates(folder) for folder in (tuned, tmp_path / "out"))
    same = {name for name in old if torch.equal(old[name].a, new[name].a) and torch.equal(old[name].b, new[name].b)}
    assert same == {name for name in old if not name.endswith("q_proj")}


def test_a_module_that_the_fine_tune_dropped_and_the_repair_spares_is_written_by_none(tmp_path):
    """PEFT loads no factors of rank 0."""
    base = save_tiny(tmp_path / "base")
    both = {"base": str(base), "target_modules": ["q_proj", "v_proj"]}
    aligned = save_adapter(tmp_path / "aligned", **both)
    tuned = save_adapter(tmp_path / "tuned", seed=1, base=str(base), target_modules=["v_proj"])
    places = {"adapter": tuned, "against": str(aligned), "base": str(base), "out": tmp_path / "out"}
    report = repair(SafeLora(threshold=0.75), str(base), **places)
    changed = {weight.name for weight in report.updates.weights if weight.changed}
    assert changed and not any("q_proj" in name for name in changed)
    for name, weight in _merged(base, tmp_path / "out").items():
        if "v_proj" not in name:
            assert torch.equal(weight, _merged(base)[name])


def _grown(folder, factor):
    """A checkpoint in bf16 whose matrices are grown by what a function says of their names."""
    model = tiny_model(seed=1).to(torch.bfloat16)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.mul_(factor(key))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_a_pull_of_less_than_a_step_of_the_precision_is_one_on_the_average(tmp_path):
    """Rounded to the nearest, weights that differ by a single step would not be pulled at all."""
    aligned, tuned = _grown(tmp_path / "aligned", lambda _: 1.0), _grown(tmp_path / "tuned", lambda _: 1.004)
    report = repair(LinearPull(share=0.25), tuned, against=aligned, out=tmp_path / "out")
    end, start, got = (
        torch.cat([weight.flatten().float() for weight in _merged(each).values()])
        for each in (aligned, tuned, tmp_path / "out")
    )
    assert set((got - start).abs().unique().tolist()) <= {0.0, *(end - start).abs().unique().tolist()}
    assert float((got - start) @ (end - start) / (end - start).square().sum()) == pytest.approx(0.25, abs=0.02)
    kept = float((got - end).norm() / (start - end).norm())
    assert kept > 0.8 and report.updates.kept == pytest.approx(kept, rel=1e-4)


def test_a_pull_that_rounding_undoes_everywhere_is_an_error(tmp_path):
    aligned, tuned = _grown(tmp_path / "aligned", lambda _: 1.0), _grown(tmp_path / "tuned", lambda _: 1.004)
    with pytest.raises(InactiveError, match=r"Rounding to the precision of .*tuned undid the repair of all"):
        repair(LinearPull(share=1e-9), tuned, against=aligned, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pull_that_rounding_undoes_here_and_there_says_so(tmp_path):
    """Of one in five hundred entries none may be drawn of a small matrix."""
    aligned, tuned = _grown(tmp_path / "aligned", lambda _: 1.0), _grown(tmp_path / "tuned", lambda _: 1.004)
    updates = repair(LinearPull(share=0.002), tuned, against=aligned, out=tmp_path / "out").updates
    start, end, got = (_merged(each) for each in (tuned, aligned, tmp_path / "out"))
    moved = {name for name in got if not torch.equal(got[name], start[name])}
    grown = {name for name in got if not torch.equal(end[name], start[name])}
    assert moved < grown and {weight.name for weight in updates.weights if weight.changed} == moved
    before, after = (sum(float((each[n] - end[n]).square().sum()) for n in end) ** 0.5 for each in (start, got))
    assert updates.changed == len(moved) and updates.kept == pytest.approx(after / before, rel=1e-5)


def test_the_whole_way_back_is_the_aligned_model(tmp_path, stacked):
    base, aligned, tuned = stacked
    repair(LinearPull(share=1.0), str(base), adapter=tuned, against=str(aligned), out=tmp_path / "out")
    end, got = _merged(base, aligned), _merged(base, tmp_path / "out")
    for name, weight in got.items():
        torch.testing.assert_close(weight, end[name], rtol=1e-5, atol=1e-6)


def test_an_adapter_over_an_aligned_checkpoint_has_a_dense_direction(tmp_path):
    base, aligned = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "aligned", seed=1)
    adapter = save_adapter(tmp_path / "adapter", seed=2)
    repair(EVERY, str(aligned), adapter=adapter, base=str(base), out=tmp_path / "out")
    want = _dense_safe_lora(_merged(aligned, adapter), _merged(aligned), _merged(base))
    got = _merged(aligned, tmp_path / "out")
    for name, weight in want.items():
        torch.testing.assert_close(got[name], weight, rtol=1e-4, atol=1e-4)


def test_layers_that_keep_their_weights_transposed_are_turned(tmp_path):
    """Also where the weight is square, so that no shape would tell."""
    sizes = GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    for seed, name in enumerate(("base", "aligned")):
        torch.manual_seed(seed)
        GPT2LMHeadModel(sizes).save_pretrained(tmp_path / name)
    config = LoraConfig(r=2, target_modules=["attn.c_proj"], fan_in_fan_out=True, init_lora_weights=False)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "aligned")
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    names = {name: str(tmp_path / name) for name in ("base", "aligned")}
    repair(EVERY, names["aligned"], adapter=tmp_path / "adapter", base=names["base"], out=tmp_path / "out")
    name = "transformer.h.0.attn.c_proj.weight"
    aligned = _merged(tmp_path / "aligned")[name].T
    v = aligned - _merged(tmp_path / "base")[name].T
    update = _merged(tmp_path / "aligned", tmp_path / "adapter")[name].T - aligned
    got = _merged(tmp_path / "aligned", tmp_path / "out")[name].T
    torch.testing.assert_close(got, aligned + v @ v.T / v.norm() @ update, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [EVERY, LinearPull(share=0.5)], ids=lambda each: each.name)
def test_a_checkpoint_comes_out_as_a_checkpoint(tmp_path, method):
    base, aligned = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "aligned", seed=1)
    tiny_model(seed=2).to(torch.bfloat16).save_pretrained(tmp_path / "tuned", max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(tmp_path / "tuned")
    start = {"base": str(base)} if method is EVERY else {}
    repair(method, str(tmp_path / "tuned"), against=str(aligned), **start, out=tmp_path / "out")
    tuned = {name: weight.float() for name, weight in iterate_weights(tmp_path / "tuned")}
    start, end = dict(iterate_weights(base)), dict(iterate_weights(aligned))
    got = dict(iterate_weights(tmp_path / "out"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *(file.name for file in (tmp_path / "tuned").iterdir()),
        "moored_recovery.json",
    }
    for name, weight in got.items():
        v, update = end[name] - start[name], tuned[name] - end[name]
        want = tuned[name] - 0.5 * update
        if method is EVERY:
            inside = "layers" in name and v.ndim == 2
            want = end[name] + v @ v.T / v.norm() @ update if inside else tuned[name]
            assert inside or torch.equal(weight.float(), tuned[name])
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight.float(), want, rtol=1e-2, atol=1e-2)
    load_model(ModelSource(str(tmp_path / "out")))


def test_a_checkpoint_of_transposed_layers_is_turned_too(tmp_path):
    sizes = GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    for seed, name in enumerate(("base", "aligned", "tuned")):
        torch.manual_seed(seed)
        GPT2LMHeadModel(sizes).save_pretrained(tmp_path / name)
    names = {name: str(tmp_path / name) for name in ("base", "aligned", "tuned")}
    repair(EVERY, names["tuned"], against=names["aligned"], base=names["base"], out=tmp_path / "out")
    name = "transformer.h.0.attn.c_proj.weight"
    base, aligned, tuned, got = (_merged(tmp_path / each)[name].T for each in (*names, "out"))
    v = aligned - base
    torch.testing.assert_close(got, aligned + v @ v.T / v.norm() @ (tuned - aligned), rtol=1e-4, atol=1e-5)


def test_a_tied_head_that_one_of_the_files_repeats_stays_tied(tmp_path):
    aligned = save_tiny(tmp_path / "aligned", "gemma")
    tuned = save_tiny(tmp_path / "tuned", "gemma", seed=1)
    weights = load_file(tuned / "model.safetensors")
    repeated = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    save_file(repeated, tuned / "model.safetensors", metadata={"format": "pt"})
    repair(LinearPull(), str(tuned), against=str(aligned), out=tmp_path / "out")
    end, got = _merged(aligned), _merged(tmp_path / "out")
    for name, weight in got.items():
        torch.testing.assert_close(weight, 0.5 * weights[name] + 0.5 * end[name], rtol=1e-4, atol=1e-5)


def test_a_repeated_head_in_bf16_gets_the_bits_of_its_embedding(tmp_path):
    aligned = save_tiny(tmp_path / "aligned", "gemma")
    tuned = save_tiny(tmp_path / "tuned", "gemma", seed=1)
    weights = {name: weight.bfloat16() for name, weight in load_file(tuned / "model.safetensors").items()}
    repeated = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    save_file(repeated, tuned / "model.safetensors", metadata={"format": "pt"})
    repair(LinearPull(share=0.3), str(tuned), against=str(aligned), out=tmp_path / "out")
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(got["lm_head.weight"], got["model.embed_tokens.weight"])
    assert not torch.equal(got["lm_head.weight"], repeated["lm_head.weight"])


@pytest.mark.parametrize("method", [SafeLora(threshold=0.0), LinearPull(share=0.0)], ids=lambda each: each.name)
@pytest.mark.parametrize("named", [True, False])
def test_what_is_declared_off_copies_every_file(tmp_path, stacked, method, named):
    """Whether or not the models are named that it would look at."""
    base, aligned, tuned = stacked
    against = {"against": str(aligned)} if named else {}
    repair(method, str(base), adapter=tuned, **against, out=tmp_path / "out")
    found = digests(tmp_path / "out")
    del found["moored_recovery.json"]
    assert found == digests(tuned)


def test_the_record_names_the_models_and_the_settings(tmp_path, stacked):
    base, aligned, tuned = stacked
    repair(EVERY, str(base), adapter=tuned, against=str(aligned), base=str(base), out=tmp_path / "out")
    record = json.loads((tmp_path / "out" / "moored_recovery.json").read_text())
    assert record["method"] == {"name": "safe_lora", "threshold": 1.0, "form": "published", "rank": None}
    assert record["against"] == str(aligned) and record["base"] == str(base)


def test_files_beside_an_adapter_come_along(tmp_path, stacked):
    base, aligned, tuned = stacked
    (tuned / "safety_tokens.json").write_text("[]")
    repair(LinearPull(), str(base), adapter=tuned, against=str(aligned), out=tmp_path / "out")
    assert (tmp_path / "out" / "safety_tokens.json").is_file()


def _equal(tmp_path, base, aligned, tuned):
    return {"adapter": aligned, "against": str(aligned), "method": LinearPull()}, InactiveError, "nothing to repair"


def _above(tmp_path, base, aligned, tuned):
    return (
        {"adapter": tuned, "against": str(aligned), "base": str(base), "method": SafeLora(threshold=1e-6)},
        InactiveError,
        "smallest cosine with alignment is 0",
    )


def _unaligned(tmp_path, base, aligned, tuned):
    return {"adapter": tuned, "base": str(base), "method": EVERY}, InactiveError, "equals its base"


def _no_base(tmp_path, base, aligned, tuned):
    return {"adapter": tuned, "against": str(aligned), "method": EVERY}, InputError, "name it with --base"


def _adapter_as_base(tmp_path, base, aligned, tuned):
    return (
        {"adapter": tuned, "against": str(aligned), "base": str(aligned), "method": EVERY},
        InputError,
        "before alignment",
    )


def _other_checkpoint(tmp_path, base, aligned, tuned):
    other = shutil.copytree(base, tmp_path / "other")
    return {"adapter": tuned, "against": str(other), "method": LinearPull()}, ModelError, "is not an adapter"


def _no_reference(tmp_path, base, aligned, tuned):
    return {"method": LinearPull()}, InputError, "Name the aligned model"


def _wider(tmp_path, base, aligned, tuned):
    save_tiny(tmp_path / "wide", hidden_size=32)
    return {"against": str(tmp_path / "wide"), "method": LinearPull()}, ModelError, "was not tuned from .*wide"


def _idle_base(tmp_path, base, aligned, tuned):
    return (
        {"adapter": tuned, "base": str(base), "method": LinearPull()},
        InputError,
        "does not use the checkpoint",
    )


def _idle_against(tmp_path, base, aligned, tuned):
    return (
        {"adapter": tuned, "against": str(base), "method": OneShot()},
        InputError,
        "uses the aligned model only",
    )


def _idle_pool(tmp_path, base, aligned, tuned):
    return (
        {"adapter": tuned, "choose_from": "embedded", "method": LinearPull()},
        InputError,
        "not train on an example",
    )


def _not_finite(tmp_path, base, aligned, tuned):
    file = tuned / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    return {"adapter": tuned, "against": str(aligned), "method": LinearPull()}, ModelError, "NaN"


def _not_finite_checkpoint(tmp_path, base, aligned, tuned):
    other = save_tiny(tmp_path / "other", seed=1)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    return {"against": str(other), "method": LinearPull()}, ModelError, "model.norm.weight in .* holds NaN"


def _unprefixed(tmp_path, base, aligned, tuned):
    """Its adapter would find no weight under its names."""
    weights = load_file(base / "model.safetensors")
    other = shutil.copytree(base, tmp_path / "bare")
    save_file({name.removeprefix("model."): each for name, each in weights.items()}, other / "model.safetensors")
    shutil.copytree(aligned, tmp_path / "over")
    config = json.loads((aligned / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(other)}
    (tmp_path / "over" / "adapter_config.json").write_text(json.dumps(config))
    return {"against": str(tmp_path / "over"), "method": LinearPull()}, ModelError, "holds under another name"


@pytest.mark.parametrize(
    "spoil",
    [
        _equal,
        _above,
        _unaligned,
        _no_base,
        _adapter_as_base,
        _other_checkpoint,
        _no_reference,
        _wider,
        _idle_base,
        _idle_against,
        _idle_pool,
        _not_finite,
        _not_finite_checkpoint,
        _unprefixed,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_what_cannot_be_repaired_is_one_sentence_and_leaves_nothing(tmp_path, spoil):
    base = save_tiny(tmp_path / "base")
    aligned = save_adapter(tmp_path / "aligned", base=str(base))
    stack_adapters(aligned, save_adapter(tmp_path / "more", seed=1, base=str(base)), tmp_path / "tuned")
    given, error, sentence = spoil(tmp_path, base, aligned, tmp_path / "tuned")
    before = digests(tmp_path)
    with pytest.raises(error, match=sentence) as raised:
        repair(given.pop("method"), str(base), **given, out=tmp_path / "new" / "out")
    assert "\n" not in str(raised.value) and digests(tmp_path) == before and not (tmp_path / "new").exists()
