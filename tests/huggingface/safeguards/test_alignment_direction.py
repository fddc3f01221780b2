"""AsFT in a trainer, against dense matrices and the autograd of the formula as the paper writes it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.huggingface.training.fixtures import LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, weights
from tests.tiny import save_tiny, tiny_model
from transformers import Phi3Config, Phi3ForCausalLM

from moored import AlignmentDirection, UpdateNorm
from moored.errors import InactiveError, InputError, ModelError

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

EXACT = {"precision": "float32"}
STEPS = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 0.05}


def _base(folder, kind="llama"):
    """Another model of the same shape: what the aligned model was aligned from."""
    return str(save_tiny(folder / f"base-{kind}", kind, seed=9))


def _trained(tmp_path, *, model=None, monkeypatch: Any = None, **settings):
    if model is not None:
        monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, **__: model())
    torch.manual_seed(0)
    trainer = make_trainer(tmp_path / "run", rows=token_rows(8), **{**STEPS, **settings})
    before = weights(trainer)
    trainer.train()
    return trainer, before


def _dense_operator(penalty, d):
    """Ĉ, out × out."""
    if penalty.form == "published":
        u, s, vt = torch.linalg.svd(d, full_matrices=False)
        k = penalty.rank or len(s)
        d_k = (u[:, :k] * s[:k]) @ vt[:k]
        return d_k @ d_k.T / d.norm()
    u = torch.linalg.svd(d).U[:, : penalty.rank]
    return u @ u.T


def _dense_penalty(penalty, update, d):
    if penalty.form == "flattened":
        return update.square().sum() - (update * d).sum() ** 2 / d.square().sum()
    return ((torch.eye(len(d)) - _dense_operator(penalty, d)) @ update).square().sum()


FORMS = [
    AlignmentDirection(strength=0.7, base="?", **EXACT),
    AlignmentDirection(strength=0.7, base="?", rank=3, **EXACT),
    AlignmentDirection(strength=0.7, base="?", form="projector", rank=3, **EXACT),
    AlignmentDirection(strength=0.7, base="?", form="flattened", **EXACT),
    AlignmentDirection(strength=0.7, base="?", scaled=True, **EXACT),
]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize(
    ("form", "kind"),
    [*((form, "llama") for form in FORMS), *((FORMS[0], kind) for kind in ("qwen2", "gemma", "phi3"))],
    ids=["published", "rank", "projector", "flattened", "scaled", "qwen2", "gemma", "phi3"],
)
def test_the_second_step_differs_by_the_gradient_of_the_dense_formula(tmp_path, form, kind, lora, monkeypatch):
    """The first step has no penalty; the second adds −η·λ·∇ of what the paper writes, by autograd on whole matrices."""
    model = None
    if kind == "phi3":
        model, base = _phi3, str(tmp_path / "base")
        _phi3(seed=9).save_pretrained(base)
        lora = lora and {**lora, "target_modules": ["qkv_proj", "gate_up_proj"]}
    else:
        base = _base(tmp_path, kind)
    penalty = replace(form, base=base)
    settings = {"kind": kind, "lora": lora, "model": model, "monkeypatch": monkeypatch}
    first, start = _trained(tmp_path, **{**settings, "max_steps": 1})
    plain, _ = _trained(tmp_path, **settings)
    held, _ = _trained(tmp_path, safeguards=[penalty], **settings)
    after_one, after_plain, after_held = weights(first), weights(plain), weights(held)
    expected = _expected_gradients(penalty, first.model, start, load_file(f"{base}/model.safetensors"))
    assert len(expected) >= 4
    for name, weight in after_plain.items():
        step = -STEPS["learning_rate"] * penalty.strength * expected.get(name, torch.zeros(()))
        torch.testing.assert_close(after_held[name] - weight, step.expand_as(weight), atol=2e-6, rtol=1e-3)
    moved = max(float((after_held[name] - after_plain[name]).abs().max()) for name in after_one)
    assert moved > 2e-5  # Ten times the tolerance.


def _expected_gradients(penalty, model, start, base):
    found = {}
    parameters = dict(model.named_parameters())
    for name in start:
        if name.endswith("lora_A.default.weight"):
            module = name.removesuffix(".lora_A.default.weight")
            a, b = (parameters[f"{module}.lora_{kind}.default.weight"] for kind in "AB")
            key = module.removeprefix("base_model.model.") + ".weight"
            d = parameters[f"{module}.base_layer.weight"].detach() - base[key]
            update = b @ a * (2.0 if penalty.scaled else 1.0)
            found[name], found[f"{module}.lora_B.default.weight"] = torch.autograd.grad(
                _dense_penalty(penalty, update, d), [a, b]
            )
        elif name.endswith("proj.weight"):
            weight = parameters[name]
            value = _dense_penalty(penalty, weight - start[name], start[name] - base[name])
            (found[name],) = torch.autograd.grad(value, [weight])
    return found


def _phi3(seed=0):
    """Its projections are fused: qkv_proj, gate_up_proj."""
    sizes = {"vocab_size": 384, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0}
    torch.manual_seed(seed)
    return Phi3ForCausalLM(Phi3Config(**sizes, **heads, initializer_range=0.2, eos_token_id=2, bos_token_id=None))


def test_an_aligned_model_that_is_a_lora_over_the_base_leads_like_the_merged_one(tmp_path, monkeypatch):
    """Continued unmerged, from the adapter's folder, and trained as whole weights: three ways to the same direction."""
    base = _base(tmp_path)

    def under_adapter():
        torch.manual_seed(5)
        config = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        return get_peft_model(tiny_model(seed=9), config)

    under_adapter().save_pretrained(tmp_path / "safety")
    adapter = str(tmp_path / "safety")
    merged = lambda: under_adapter().merge_and_unload()  # noqa: E731
    seen = {}
    lora = {**LORA, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    for way, settings in {
        "merged": {"model": merged, "lora": lora, "base": base},
        "factored": {"model": merged, "lora": lora, "base": base, "adapter": adapter},
        "continued": {"model": under_adapter, "lora": None, "base": base},
    }.items():
        chosen = {key: settings.pop(key) for key in ("base", "adapter") if key in settings}
        model = settings.pop("model")
        penalty = AlignmentDirection(strength=0.5, **chosen, **EXACT)
        monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, model=model, **__: model())
        trainer = make_trainer(tmp_path / way, rows=token_rows(4), safeguards=[penalty], **settings)
        (held,) = trainer._active
        seen[way] = {name: guide.factor @ guide.factor.T for name, guide in held.guides.items()}
        columns = {guide.factor.shape[1] for guide in held.guides.values()}
        assert columns == {"merged": {16, 32, 0}, "factored": {3, 0}, "continued": {3}}[way]
    assert seen["merged"].keys() == seen["factored"].keys() > seen["continued"].keys()
    for way in ("factored", "continued"):
        for name, operator in seen[way].items():
            torch.testing.assert_close(operator, seen["merged"][name], atol=1e-5, rtol=1e-4)
    assert not seen["factored"]["model.layers.0.self_attn.v_proj"].any()


def test_a_continued_adapter_is_held_to_its_start(tmp_path, monkeypatch):
    base = _base(tmp_path)

    def continued():
        torch.manual_seed(5)
        config = LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False)
        return get_peft_model(tiny_model(seed=9), config)

    settings = {"model": continued, "monkeypatch": monkeypatch, "lora": None, "logging_steps": 1}
    settings["logging_strategy"] = "steps"
    trainer, before = _trained(tmp_path, safeguards=[AlignmentDirection(strength=1.0, base=base, **EXACT)], **settings)
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    guide, *_ = trainer.safeguard_report()[0]["guides"].values()
    assert guide.keys() == {"energy", "eigenvalue", "norm"} and 0 < guide["eigenvalue"] < guide["norm"]
    assert first["safety/alignment_direction/value"] == 0.0 == first["safety/alignment_direction/gradient_norm"]
    assert second["safety/alignment_direction/value"] > 0 < second["safety/alignment_direction/gradient_ratio"]
    free, _ = _trained(tmp_path, **settings)
    far = [sum(float((weights(run)[name] - before[name]).norm()) for name in before) for run in (trainer, free)]
    assert far[0] < far[1]


def test_a_projector_that_spares_everything_is_refused(tmp_path):
    settings = {"form": "projector", "rank": 16, "base": _base(tmp_path)}
    with pytest.raises(InputError, match="rank 16 keeps as many directions as the weights have"):
        lora = {**LORA, "target_modules": ["q_proj"]}
        make_trainer(tmp_path, rows=token_rows(4), lora=lora, safeguards=[AlignmentDirection(**settings)])
    penalty = AlignmentDirection(**settings)
    guides = {name: penalty.guide(torch.randn(rows, 40), name) for name, rows in (("few", 16), ("many", 32))}
    assert "in 1 of them these are all there are, and no update costs" in penalty.describe(guides)


def test_quantized_weights_take_the_direction_from_the_original_files(tmp_path, monkeypatch):
    from moored.huggingface.safeguards.guarded_weights import LoraWeight

    base, aligned = _base(tmp_path), str(save_tiny(tmp_path / "aligned"))
    penalty = AlignmentDirection(base=base, **EXACT)
    plain = make_trainer(tmp_path / "run", rows=token_rows(4), safeguards=[penalty])
    monkeypatch.setattr(LoraWeight, "below", lambda self: None)

    def loaded():
        model = tiny_model()
        model.config._name_or_path = aligned
        return model

    with pytest.raises(InputError, match=r"q_proj\.weight is quantized and the model does not say from which files"):
        make_trainer(tmp_path / "run", rows=token_rows(4), safeguards=[penalty])
    monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, **__: loaded())
    packed = tmp_path / "packed"
    packed.mkdir()
    weights = load_file(f"{base}/model.safetensors")
    save_file({name: each.to(torch.float8_e4m3fn) for name, each in weights.items()}, packed / "model.safetensors")
    with pytest.raises(ModelError, match=r"q_proj\.weight is quantized in the files of .*packed"):
        make_trainer(tmp_path / "run", rows=token_rows(4), safeguards=[replace(penalty, base=str(packed))])
    quantized = make_trainer(tmp_path / "run", rows=token_rows(4), safeguards=[penalty])
    for name, guide in plain._active[0].guides.items():
        torch.testing.assert_close(quantized._active[0].guides[name].factor, guide.factor)


def test_what_cannot_lead_is_refused(tmp_path):
    rows = token_rows(4)
    with pytest.raises(InputError, match="the model's weights all equal those of the base"):
        same = str(save_tiny(tmp_path / "same"))
        make_trainer(tmp_path, rows=rows, safeguards=[AlignmentDirection(base=same)])
    with pytest.raises(ModelError, match=r"is not a base of this model: .*q_proj\.weight is"):
        wide = str(save_tiny(tmp_path / "wide", hidden_size=32))
        make_trainer(tmp_path, rows=rows, safeguards=[AlignmentDirection(base=wide)])
    with pytest.raises(ModelError, match=r"holds no tensor .*q_proj\.weight"):
        (tmp_path / "poor").mkdir()
        save_file({"lm_head.weight": torch.ones(2)}, tmp_path / "poor" / "model.safetensors")
        make_trainer(tmp_path, rows=rows, safeguards=[AlignmentDirection(base=str(tmp_path / "poor"))])
    with pytest.raises(InactiveError, match="guards nothing"):
        lora = {"r": 2, "target_modules": ["embed_tokens"]}
        make_trainer(tmp_path, rows=rows, lora=lora, safeguards=[UpdateNorm(strength=1.0)])


def test_the_plain_norm_works_in_a_trainer(tmp_path):
    settings = {"lora": LORA}
    plain, _ = _trained(tmp_path, safeguards=[UpdateNorm(strength=0.5)], **settings)
    assert plain.safeguard_report()[0]["holds"] == 6


def test_under_a_gradient_scaler_the_penalty_is_scaled_like_the_loss(tmp_path, monkeypatch):
    """As under fp16: the step that unscales all gradients must find both by the same factor."""
    from moored.huggingface.training.mixin import SafeguardMixin

    penalty = AlignmentDirection(strength=0.7, base=_base(tmp_path), **EXACT)
    plain, _ = _trained(tmp_path, safeguards=[penalty])

    class Scaler:
        def get_scale(self):
            return 8.0

    original = SafeguardMixin.training_step

    def scaled(self, *args, **kwargs):
        self.accelerator.scaler = Scaler()
        backward = self.accelerator.backward
        self.accelerator.backward = lambda loss, **more: (8 * loss / 1).backward(**more)
        try:
            loss = original(self, *args, **kwargs)
        finally:
            self.accelerator.backward, self.accelerator.scaler = backward, None
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= 8
        return loss

    monkeypatch.setattr(SafeguardMixin, "training_step", scaled)
    unscaled, _ = _trained(tmp_path, safeguards=[penalty])
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(unscaled)[name], weight)


def test_peft_models_load_what_was_trained_under_the_penalty(tmp_path):
    """Adapter in, adapter out: nothing of the penalty stays in what is saved."""
    trainer, _ = _trained(tmp_path, safeguards=[AlignmentDirection(base=_base(tmp_path))])
    trainer.save_model(str(tmp_path / "out"))
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "out")
    names = {name for name in load_file(tmp_path / "out" / "adapter_model.safetensors")}
    assert len(names) == 12 and all(".lora_" in name for name in names)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded(ids).logits, trainer.model.eval()(ids).logits)
