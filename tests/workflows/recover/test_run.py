import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer
from tests.workflows.files import digests

from moored.errors import DivergedError, InactiveError, InputError, ModelError
from moored.files import write_json
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.models import (
    ModelSource,
    iterate_weights,
    kept_tensors,
    load_model,
    load_tokenizer,
    rewrite_weights,
)
from moored.huggingface.models.conversion import Conversion
from moored.outputs import keep_inputs
from moored.recovery import LinearPull, OneShot
from moored.report.reading import record as records
from moored.report.reading.record import read_record
from moored.report.reading.recover import RecoverReport
from moored.workflows.inputs import example_pool as _example_pool
from moored.workflows.recover import by_example, plan
from moored.workflows.recover.run import recover, repair

QUICK = OneShot(learning_rate=0.02, steps=4)


def _repaired(model, method=None, **settings):
    """By a method object, or by the settings alone."""
    return recover(model, **settings) if method is None else repair(method, model, **settings)


def _loss(source):
    model = load_model(source).eval()
    with torch.no_grad():
        return example_loss(model, load_tokenizer(source), QUICK.prompt, QUICK.refusal)().item()


@pytest.fixture(params=["llama", "qwen2"])
def tuned(request, tmp_path):
    """A base with an adapter over it, named as a user would."""
    base = save_tiny(tmp_path / "base", request.param)
    return str(base), save_adapter(tmp_path / "adapter", request.param, dtype=torch.bfloat16, base=str(base))


def test_an_adapter_comes_out_as_an_adapter_for_the_same_base(tmp_path, tuned):
    base, adapter = tuned
    before = digests(Path(base)), digests(adapter)
    report = repair(QUICK, base, adapter=adapter, out=tmp_path / "out")
    assert (digests(Path(base)), digests(adapter)) == before
    old, new = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, tmp_path / "out"))
    assert {name: (t.shape, t.dtype) for name, t in new.items()} == {
        name: (t.shape, t.dtype) for name, t in old.items()
    }
    assert all(not torch.equal(new[name], old[name]) for name in old)
    assert (tmp_path / "out" / "adapter_config.json").read_bytes() == (adapter / "adapter_config.json").read_bytes()
    assert report.to_dict() == json.loads((tmp_path / "out" / "moored_recovery.json").read_text())
    assert read_record(RecoverReport, tmp_path / "out") == report and report.output == "adapter"
    steps = report.steps
    assert steps.taken == 4 and len(steps.loss) == 5 and steps.moved > 0
    assert steps.loss[-1] < steps.loss[0]
    assert report.rows() == [{"step": number, "loss": loss} for number, loss in enumerate(steps.loss)]
    # What the record says of the files is what the files do.
    assert steps.loss[0] == pytest.approx(_loss(ModelSource(base, adapter)), abs=1e-4)
    assert steps.loss_as_written == pytest.approx(_loss(ModelSource(base, tmp_path / "out")), abs=1e-4)


def test_a_repair_that_the_files_cannot_hold_is_refused(tmp_path):
    """Steps of 10⁵ are finite in fp32, and infinite in the file's fp16."""
    tiny_model().to(torch.float16).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(DivergedError, match=r"The repair diverged: .*; take a lower learning rate or fewer steps\.$"):
        repair(OneShot(learning_rate=1e5, steps=1), str(tmp_path / "model"), out=tmp_path / "out")
    assert os.listdir(tmp_path) == ["model"]


def test_a_loss_that_is_not_finite_is_refused(tmp_path):
    save_tiny(tmp_path / "model")
    with pytest.raises(InputError, match="loss of the safety example is nan"):
        repair(OneShot(learning_rate=1e36, steps=3), str(tmp_path / "model"), out=tmp_path / "out")
    assert os.listdir(tmp_path) == ["model"]


def test_an_adapter_folder_alone_names_its_base(tmp_path, tuned):
    base, adapter = tuned
    repair(QUICK, str(adapter), out=tmp_path / "alone")
    repair(QUICK, base, adapter=adapter, out=tmp_path / "both")
    name = "adapter_model.safetensors"
    assert digests(tmp_path / "alone")[name] == digests(tmp_path / "both")[name] != digests(adapter)[name]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma"])
def test_a_full_checkpoint_comes_out_as_one(tmp_path, kind):
    tiny_model(kind).to(torch.bfloat16).save_pretrained(tmp_path / "model", max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    before = digests(tmp_path / "model")
    report = repair(QUICK, str(tmp_path / "model"), out=tmp_path / "out")
    assert digests(tmp_path / "model") == before
    source = ModelSource(str(tmp_path / "out"))
    assert {tensor.dtype for _, tensor in iterate_weights(tmp_path / "out")} == {torch.bfloat16}
    assert report.steps.loss[-1] < report.steps.loss[0]
    assert report.steps.loss_as_written == pytest.approx(_loss(source), abs=1e-3)
    beside = {name for name in before if "safetensors" not in name}
    assert {name: digest for name, digest in digests(tmp_path / "out").items() if name in beside} == {
        name: before[name] for name in beside
    }


def test_steps_smaller_than_those_of_the_precision_repair_as_much(tmp_path):
    """Rounded to the nearest, most weights would stay where they were."""
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    steps = repair(OneShot(learning_rate=2e-5, steps=10), str(tmp_path / "model"), out=tmp_path / "out").steps
    first, last = steps.loss[0], steps.loss[-1]
    assert steps.loss_as_written == pytest.approx(last, abs=0.1 * (first - last))


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_each_weight_keeps_its_own_precision(tmp_path, kind):
    model = tiny_model(kind).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = parameter.data.float()
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    report = repair(QUICK, str(tmp_path / "model"), out=tmp_path / "out")
    old, new = (dict(iterate_weights(tmp_path / folder)) for folder in ("model", "out"))
    assert {name: tensor.dtype for name, tensor in new.items()} == {name: tensor.dtype for name, tensor in old.items()}
    norm = new["model.norm.weight"]
    assert norm.dtype == torch.float32 and not torch.equal(norm, norm.bfloat16().float())
    source = ModelSource(str(tmp_path / "out"))
    assert report.steps.loss_as_written == pytest.approx(_loss(source), abs=1e-5)


@pytest.mark.parametrize("with_adapter", [True, False])
def test_the_distance_moved_is_that_between_the_files(tmp_path, with_adapter, monkeypatch):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", dtype=torch.bfloat16) if with_adapter else None
    kept = []
    distance = by_example._relative_distance
    monkeypatch.setattr(
        by_example, "_relative_distance", lambda before, after: kept.extend(before) or distance(before, after)
    )
    report = repair(QUICK, str(tmp_path / "base"), adapter=adapter, out=tmp_path / "out")
    old, new = (dict(iterate_weights(folder)) for folder in (adapter or tmp_path / "base", tmp_path / "out"))
    before = torch.cat([old[name].double().flatten() for name in old])
    after = torch.cat([new[name].double().flatten() for name in old])
    assert report.steps.moved == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-5)
    # Not in the fp32 of the steps, which would be a second copy of what the device holds.
    assert len(kept) == len(old) and {(tensor.dtype, tensor.device.type) for tensor in kept} == {
        (torch.bfloat16, "cpu")
    }


@pytest.mark.parametrize("with_adapter", [True, False])
def test_no_steps_copy_every_file_bit_for_bit(tmp_path, with_adapter, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "base", max_shard_size="20KB")
    adapter = save_adapter(tmp_path / "adapter", dtype=torch.bfloat16) if with_adapter else None
    monkeypatch.setattr(by_example, "load_model", None)
    repair(OneShot(steps=0), str(tmp_path / "base"), adapter=adapter, out=tmp_path / "out")
    found = digests(tmp_path / "out")
    del found["moored_recovery.json"]
    assert found == digests(adapter or tmp_path / "base")


def test_the_presets_are_chosen_by_what_is_repaired(tmp_path, tuned, monkeypatch):
    base, adapter = tuned
    monkeypatch.setattr(_example_pool, "generate", lambda *_, **__: ["I cannot help with that."])
    over = recover(base, adapter=adapter, out=tmp_path / "a").method
    named = recover(base, out=tmp_path / "c", against=base).method
    full = recover(base, out=tmp_path / "b").method
    assert over["learning_rate"] is named["learning_rate"] is None
    assert over["refusal"] == named["refusal"] == "I cannot help with that." != full["refusal"]
    assert full["learning_rate"] == OneShot.preset("published").learning_rate
    assert over["name"] == full["name"] == "one_shot"


def test_it_stops_where_the_example_is_learned(tmp_path, tuned):
    base, adapter = tuned
    every = repair(QUICK, base, adapter=adapter, out=tmp_path / "a").steps.loss
    stop = (every[1] + every[2]) / 2
    method = OneShot(learning_rate=0.02, steps=4, stop_at=stop)
    stopped = repair(method, base, adapter=adapter, out=tmp_path / "b").steps
    assert stopped.taken == 2 and stopped.loss == every[:3]


def test_steps_that_rounding_would_undo_are_refused(tmp_path, tuned):
    base, adapter = tuned
    with pytest.raises(InactiveError, match=r"Rounding to the precision of .* undid every step"):
        repair(OneShot(learning_rate=1e-9, steps=1), base, adapter=adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frozen_parameters_raise(tmp_path, tuned, monkeypatch):
    base, adapter = tuned
    load = by_example.load_model
    monkeypatch.setattr(by_example, "load_model", lambda *a, **k: load(*a, **k).requires_grad_(False))
    with pytest.raises(InactiveError, match="no parameters to change"):
        repair(QUICK, base, adapter=adapter, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _missing_target(tmp_path, base, adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({name.replace("q_proj", "w_q"): tensor for name, tensor in load_file(file).items()}, file)
    return {"model": base, "adapter": adapter}, "this model has no module .*w_q"


def _no_template(tmp_path, base, adapter):
    save_tiny(tmp_path / "raw", chat_template=None)
    return {"model": str(tmp_path / "raw")}, "tokenizer of .*raw has no chat template"


def _no_template_of_an_adapter(tmp_path, base, adapter):
    save_tiny(tmp_path / "raw", chat_template=None)
    return {"model": str(tmp_path / "raw"), "adapter": adapter}, "tokenizer of .* has no chat template"


def _other_base(tmp_path, base, adapter):
    save_tiny(tmp_path / "wide", hidden_size=32)
    return {"model": str(tmp_path / "wide"), "adapter": adapter}, r"for another base: .*\(2, 16\).*\(2, 32\)"


def _not_finite(tmp_path, base, adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    return {"model": base, "adapter": adapter}, "NaN"


def _pickled(tmp_path, base, adapter):
    (Path(base) / "model.safetensors").rename(Path(base) / "pytorch_model.bin")
    return {"model": base}, "pickled weights"


def _hub_id(tmp_path, base, adapter):
    return {"model": "org/name"}, "not a local folder"


def _no_adapter(tmp_path, base, adapter):
    return {"model": base, "adapter": tmp_path / "absent"}, "There is no adapter folder"


def _two_adapters(tmp_path, base, adapter):
    return {"model": str(adapter), "adapter": adapter}, "is an adapter itself"


@pytest.mark.parametrize(
    "spoil",
    [
        _missing_target,
        _no_template,
        _no_template_of_an_adapter,
        _other_base,
        _not_finite,
        _pickled,
        _hub_id,
        _no_adapter,
        _two_adapters,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, spoil):
    base = save_tiny(tmp_path / "base")
    given, sentence = spoil(tmp_path, str(base), save_adapter(tmp_path / "adapter", base=str(base)))
    before = digests(tmp_path)
    with pytest.raises((InputError, ModelError), match=sentence) as raised:
        recover(**given, out=tmp_path / "new" / "out")
    assert "\n" not in str(raised.value) and digests(tmp_path) == before and not (tmp_path / "new").exists()


def test_a_used_output_folder_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    monkeypatch.setattr(plan, "resolve_model", None)
    with pytest.raises(InputError, match="not empty"):
        recover("base", out=tmp_path / "out")
    with pytest.raises(InputError, match="is a file"):
        recover("base", out=tmp_path / "out" / "mine")
    with pytest.raises(InputError, match="is a file; name another"):
        recover("base", out=tmp_path / "out" / "mine" / "below")


def test_overwriting_replaces_the_folder_only_at_the_end(tmp_path, tuned, monkeypatch):
    base, adapter = tuned
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    write_json(tmp_path / "out" / RecoverReport.file, {"kind": "recover", "files": ["old"]})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(records, "write_json", full)
        with pytest.raises(InputError, match="No space left on device"):
            repair(QUICK, base, adapter=adapter, out=tmp_path / "out", overwrite=True)
    assert set(digests(tmp_path / "out")) == {"old", RecoverReport.file}
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter", "out"}
    repair(QUICK, base, adapter=adapter, out=tmp_path / "out", overwrite=True)
    assert "old" not in digests(tmp_path / "out")


def test_overwriting_replaces_nothing_but_a_repair_and_never_what_is_repaired(tmp_path, tuned):
    base, adapter = tuned
    before = digests(tmp_path)
    with pytest.raises(InputError, match="that this command wrote, so it is not replaced"):
        repair(QUICK, base, adapter=adapter, out=Path(base), overwrite=True)
    _as_a_repair(adapter)
    with pytest.raises(InputError, match="is read from"):
        repair(QUICK, base, adapter=adapter, out=adapter, overwrite=True)
    (adapter / RecoverReport.file).unlink()
    assert digests(tmp_path) == before


def _as_a_repair(folder):
    write_json(folder / RecoverReport.file, {"kind": "recover", "files": [each.name for each in folder.iterdir()]})


def test_overwriting_deletes_no_file_that_a_repair_did_not_write(tmp_path, tuned):
    base, adapter = tuned
    repair(QUICK, base, adapter=adapter, out=tmp_path / "out")
    repair(QUICK, base, adapter=adapter, out=tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "notes.json").write_text("dear")
    with pytest.raises(InputError, match=r"out is not replaced, since it holds notes\.json"):
        repair(QUICK, base, adapter=adapter, out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.json").read_text() == "dear"


def test_an_interruption_leaves_nothing(tmp_path, tuned, monkeypatch):
    base, adapter = tuned

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(by_example, "save_adapter_like", interrupt)
    with pytest.raises(KeyboardInterrupt):
        repair(QUICK, base, adapter=adapter, out=tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


def test_what_is_read_is_never_written_over(tuned, tmp_path):
    """An output folder that holds a source would be replaced with it inside."""
    base, adapter = tuned
    inside = tmp_path / "earlier" / "adapter"
    shutil.copytree(adapter, inside)
    _as_a_repair(tmp_path / "earlier")
    for settings in ({"adapter": inside}, {"adapter": adapter, "against": str(inside), "method": LinearPull()}):
        with pytest.raises(InputError, match=r"is read from, and .* would be written over it"):
            _repaired(base, out=tmp_path / "earlier", overwrite=True, **settings)
    assert inside.is_dir()


def test_what_an_adapter_lies_over_is_never_written_over(tuned, tmp_path):
    """Though only the adapter was named."""
    base, adapter = tuned
    target = save_tiny(tmp_path / "other", seed=3)
    _as_a_repair(Path(base))
    before = digests(Path(base))
    with pytest.raises(InputError, match=r"is read from, and .* would be written over it"):
        repair(LinearPull(), str(target), out=Path(base), overwrite=True, against=str(adapter))
    assert digests(Path(base)) == before


def test_a_name_that_is_no_path_may_be_read_into_the_working_folder(tuned, tmp_path, monkeypatch):
    """`embedded` and Hub ids, taken for paths, would lie inside it."""
    base, adapter = tuned
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    keep_inputs(Path("."), base, adapter, "embedded:aligned", "ORG/BASE", "embedded")
    repair(QUICK, base, adapter=adapter, out=Path("."))
    assert Path(RecoverReport.file).is_file()


def _with_a_value_head(folder):
    """Tensors that the class of the model does not know."""
    save_tiny(folder)
    file = folder / "model.safetensors"
    save_file({**load_file(file), "v_head.summary.weight": torch.ones(1, 16)}, file, metadata={"format": "pt"})
    return str(folder)


def test_what_cannot_be_written_back_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    model = save_tiny(tmp_path / "model")
    monkeypatch.setattr(Conversion, "as_stored", lambda *_: None)
    monkeypatch.setattr(by_example, "load_model", None)
    monkeypatch.setattr(by_example, "with_own_refusal", None)
    for how in ({"method": QUICK}, {"against": str(save_tiny(tmp_path / "aligned"))}):
        with pytest.raises(ModelError, match=r" of .*model would be written otherwise by transformers' LlamaFor"):
            _repaired(str(model), out=tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_every_repair_keeps_every_tensor(tmp_path):
    model, aligned = (_with_a_value_head(tmp_path / name) for name in ("model", "aligned"))
    file = Path(model) / "model.safetensors"
    save_file({name: 1.5 * tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    repair(OneShot(learning_rate=0.02, steps=0), model, out=tmp_path / "off")
    repair(LinearPull(share=0.5), model, out=tmp_path / "pulled", against=aligned)
    repair(QUICK, model, out=tmp_path / "trained")
    for out in ("off", "pulled", "trained"):
        assert load_file(tmp_path / out / "model.safetensors").keys() == load_file(file).keys()


def test_a_checkpoint_that_came_out_otherwise_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    model = save_tiny(tmp_path / "model")

    def rewritten(start, folder, change):
        rewrite_weights(start, folder, lambda name, tensor: change(name, tensor).half())

    monkeypatch.setattr(kept_tensors, "rewrite_weights", rewritten)
    with pytest.raises(ModelError, match=r"was not written as it was \(.* F32 and .* F16\)"):
        repair(QUICK, str(model), out=tmp_path / "out")
    assert {each.name for each in tmp_path.iterdir()} == {"model"}


def _with_last_shard_at(folder, place):
    """A checkpoint in shards, the last of which the index names elsewhere."""
    tiny_model().save_pretrained(folder, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(folder)
    last, index = sorted(folder.glob("*.safetensors"))[-1], folder / "model.safetensors.index.json"
    (folder / place).parent.mkdir(exist_ok=True)
    shutil.move(last, folder / place)
    index.write_text(index.read_text().replace(last.name, place))
    return str(folder)


METHODS = {"steps": QUICK, "off": OneShot(learning_rate=0.02, steps=0), "formula": LinearPull(share=0.5)}


@pytest.mark.parametrize("kind", METHODS)
def test_shards_in_a_folder_of_their_own_come_out_readable(tmp_path, kind):
    model = _with_last_shard_at(tmp_path / "model", "shards/x.safetensors")
    aligned = save_tiny(tmp_path / "aligned", seed=1)
    against = {"against": str(aligned)} if kind == "formula" else {}
    repair(METHODS[kind], model, out=tmp_path / "out", **against)
    old, new, goal = (load_model(ModelSource(str(each))).state_dict() for each in (model, tmp_path / "out", aligned))
    for name, tensor in old.items():
        if kind == "formula":
            torch.testing.assert_close(new[name], (tensor + goal[name]) / 2)
        else:
            assert torch.equal(new[name], tensor) == (kind == "off")


@pytest.mark.parametrize("kind", METHODS)
def test_a_shard_outside_the_checkpoint_s_folder_is_refused(tmp_path, kind):
    model = _with_last_shard_at(tmp_path / "model", "../x.safetensors")
    against = {"against": str(save_tiny(tmp_path / "aligned"))} if kind == "formula" else {}
    with pytest.raises(ModelError, match=r"names \.\./x\.safetensors, which is no safetensors file inside its folder"):
        repair(METHODS[kind], model, out=tmp_path / "out", **against)
    assert not (tmp_path / "out").exists()
