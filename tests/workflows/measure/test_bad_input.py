"""What cannot be measured or written is one sentence, and leaves everything as it was."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import save_tiny
from tests.workflows.files import digests, write_rows
from transformers import AutoModelForCausalLM

from moored.errors import InputError, ModelError
from moored.files import write_json
from moored.report.reading import record
from moored.report.reading.measure import MeasureReport
from moored.workflows.measure import run as workflow
from moored.workflows.measure.run import measure


def _rows(text):
    def spoil(tmp_path, given):
        (tmp_path / "bad.jsonl").write_text(text)
        return {"harmful": str(tmp_path / "bad.jsonl")}

    return spoil


def _model(change):
    def spoil(tmp_path, given):
        file = Path(given["model"]) / "model.safetensors"
        change(file)
        return {}

    return spoil


def _not_finite(file):
    tensors = load_file(file)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def _no_template(tmp_path, given):
    return {"model": str(save_tiny(tmp_path / "raw", chat_template=None)), "adapter": None}


def _other_base(tmp_path, given):
    return {"model": str(save_tiny(tmp_path / "wide", "qwen2", hidden_size=32))}


def _other_tokenizer(tmp_path, given):
    other = save_tiny(tmp_path / "other", "qwen2")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"<|im_start|>"', '"<|start|>"'))
    return {"against": str(other)}


def _reference_with_fewer_tokens(tmp_path, given):
    other = save_tiny(tmp_path / "other", "qwen2")
    model = AutoModelForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(40)
    model.save_pretrained(other)
    return {"adapter": None, "against": str(other)}


def _over_itself(tmp_path, given):
    folder = save_adapter(tmp_path / "loop", "qwen2", base=str(tmp_path / "loop"))
    return {"model": str(folder), "adapter": None}


def _csv(tmp_path, given):
    return {"harmful": write_rows(tmp_path / "bad.csv", [{"prompt": "x"}, {"prompt": ""}])}


BAD = {
    "missing file": (lambda tmp_path, given: {"harmful": str(tmp_path / "absent.jsonl")}, "There is no file"),
    "missing set of the Hub": (lambda *_: {"harmful": "nobody/nothing"}, "neither a file here .*HF_HUB_OFFLINE=1"),
    "empty file": (_rows(""), "is empty"),
    "blank file": (_rows("\n\n"), "holds no rows"),
    "broken line": (_rows('{"prompt": "a"}\n{"prompt": \n'), "line 2 is not valid JSON"),
    "no prompt column": (_rows('{"text": "a"}\n'), "has no column prompt; its columns are text"),
    "empty prompt": (_rows('{"prompt": "a"}\n{"prompt": " "}\n'), "row 2: the prompt is empty"),
    "prompt of numbers": (_rows('{"prompt": 3}\n'), "row 1: the prompt is empty or not text"),
    "empty prompt in a CSV": (_csv, "row 2: the prompt is empty"),
    "prompt longer than the context": (_rows(json.dumps({"prompt": "x" * 600})), r"Prompt 1 of bad\.jsonl .* for 512"),
    "task without answers": (lambda tmp_path, given: {"task": given["harmless"]}, "has no column completion"),
    "no prompts": (lambda *_: dict.fromkeys(("harmful", "harmless", "ordinary", "task"), "none"), "Nothing to measure"),
    "limit": (lambda *_: {"limit": 0}, "limit must be at least 1, got 0"),
    "batch size": (lambda *_: {"batch_size": 0}, "batch_size must be at least 1"),
    "tokens": (lambda *_: {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    "precision": (lambda *_: {"dtype": "int8"}, "dtype is 'int8', but it must be float32, bfloat16, float16 or null"),
    "judge": (lambda *_: {"judge": "refusals"}, "unknown judge refusals; did you mean refusal"),
    "missing model": (lambda tmp_path, given: {"model": str(tmp_path / "absent")}, "no folder here, and no name"),
    "missing adapter": (lambda tmp_path, given: {"adapter": tmp_path / "absent"}, "There is no adapter folder"),
    "empty adapter": (lambda tmp_path, given: {"adapter": tmp_path}, r"holds no adapter_config\.json"),
    "two adapters": (lambda tmp_path, given: {"model": str(given["adapter"])}, "is an adapter itself"),
    "adapter over itself": (_over_itself, "as its base, which is an adapter too"),
    "unknown embedded model": (lambda *_: {"model": "embedded:other"}, "is no embedded model"),
    "no chat template": (_no_template, "has no chat template"),
    "adapter for another base": (_other_base, r"for another base: .*\(2, 16\).*\(2, 32\)"),
    "another tokenizer": (_other_tokenizer, "reads the prompts as other tokens"),
    "reference with fewer tokens": (_reference_with_fewer_tokens, "lies beyond the 40 tokens of .*other"),
    "not finite": (_model(_not_finite), r"model\.norm\.weight in .* holds NaN"),
    "pickled": (_model(lambda file: file.rename(file.with_name("pytorch_model.bin"))), "pickled weights"),
    "truncated": (_model(lambda file: file.write_bytes(file.read_bytes()[:-9])), "Cannot load"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, files, scripted, monkeypatch, case):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    base, adapter, sets = files
    given = {"model": base, "adapter": adapter, **sets}
    spoil, sentence = BAD[case]
    given |= spoil(tmp_path, given)
    before = digests(tmp_path)
    with pytest.raises((InputError, ModelError), match=sentence) as raised:
        measure(**given, out=tmp_path / "new" / "out")
    text = str(raised.value)
    assert "\n" not in text and text.endswith((".", "?")) and ".." not in text.replace("../", "")
    assert digests(tmp_path) == before and not (tmp_path / "new").exists()


def test_an_adapter_for_another_base_is_found_before_the_reference_is_measured(tmp_path, files, monkeypatch):
    _, adapter, sets = files
    monkeypatch.setattr(workflow, "measure_model", None)
    wide = save_tiny(tmp_path / "wide", "qwen2", hidden_size=32)
    with pytest.raises(ModelError, match=r"for another base: .*\(2, 16\).*\(2, 32\)"):
        measure(str(wide), adapter=adapter, out=tmp_path / "out", **sets)


def test_an_output_that_cannot_be_written_is_found_before_anything_is_loaded(tmp_path, files, monkeypatch):
    base, _, sets = files
    monkeypatch.setattr(workflow, "resolve_model", None)
    for out, sentence in (
        (Path(base), "not empty"),
        (Path(sets["task"]), "is a file, but a folder"),
        (Path(sets["task"]) / "below", r"task\.jsonl is a file; name another"),
    ):
        with pytest.raises(InputError, match=sentence):
            measure(base, out=out, **sets)


def _full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("failure", "raised"), [(_full, InputError), (_interrupted, KeyboardInterrupt)])
def test_a_full_disk_or_an_interruption_leaves_the_old_report(tmp_path, files, scripted, monkeypatch, failure, raised):
    base, _, sets = files
    measure(base, out=tmp_path / "out", **sets)
    before = digests(tmp_path / "out")
    monkeypatch.setattr(record, "write_json", failure)
    for out, overwrite in ((tmp_path / "out", True), (tmp_path / "new", False)):
        with pytest.raises(raised):
            measure(base, out=out, overwrite=overwrite, **sets)
    assert digests(tmp_path / "out") == before and not (tmp_path / "new").exists()
    assert {file.name for file in tmp_path.glob("*.partial/*")} == {"answers.jsonl"}


def test_overwriting_replaces_the_report(tmp_path, files, scripted):
    base, adapter, sets = files
    measure(base, adapter=adapter, out=tmp_path / "out", **sets)
    measure(base, out=tmp_path / "out", overwrite=True, **sets)
    assert set(digests(tmp_path / "out")) == {"report.json", "answers.jsonl", "index.html"}


def test_overwriting_replaces_nothing_but_a_report(tmp_path, files, scripted):
    base, _, sets = files
    other = tmp_path / "other"
    other.mkdir()
    write_json(other / "report.json", {"kind": "select"})
    before = digests(tmp_path)
    for out in (Path(base), other):
        with pytest.raises(InputError, match=r"holds no report\.json that this command wrote, so it is not replaced"):
            measure(base, out=out, overwrite=True, **sets)
    assert digests(tmp_path) == before


def test_overwriting_deletes_no_file_that_a_measurement_did_not_write(tmp_path, files, scripted):
    base, _, sets = files
    out = tmp_path / "out"
    measure(base, out=out, **sets)
    (out / "notes").write_text("dear")
    with pytest.raises(InputError, match=r"out is not replaced, since it holds notes, which"):
        measure(base, out=out, overwrite=True, **sets)
    assert (out / "notes").read_text() == "dear"


@pytest.mark.parametrize("role", ["model", "adapter", "against", "against_adapter", "harmful", "task"])
def test_what_is_read_is_never_written_over(tmp_path, files, scripted, role):
    """Wherever it came from: here it has the names that a measurement writes."""
    base, adapter, sets = files
    given = {"model": base, "against": base, **sets}
    out = tmp_path / "out"
    measure(base, out=out, **sets)
    source = {"model": base, "adapter": adapter, "against": base, "against_adapter": adapter, **sets}[role]
    inside = out / "answers.jsonl"
    inside.unlink()
    (shutil.copytree if Path(source).is_dir() else shutil.copyfile)(source, inside)
    given[role] = str(inside) if isinstance(source, str) else inside
    before = digests(out)
    with pytest.raises(InputError, match=r"answers\.jsonl is read from, and .*out would be written over it"):
        measure(**given, out=out, overwrite=True)
    assert digests(out) == before


def test_a_measurement_that_is_killed_while_its_page_is_drawn_leaves_no_report(tmp_path, files, scripted, monkeypatch):
    """A report without its page could not be completed by any command."""
    base, _, sets = files
    monkeypatch.setitem(record._PAGES, MeasureReport, _interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(base, out=tmp_path / "out", **sets)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoilt", ["measured", "reference"])
def test_logits_that_are_not_finite_are_an_error_that_names_the_model(tmp_path, files, spoilt):
    """Finite weights can overflow: every answer would be empty, and the model would look safe."""
    base, _, sets = files
    broken = save_tiny(tmp_path / "broken", "qwen2")
    tensors = load_file(broken / "model.safetensors")
    tensors["lm_head.weight"][:] = 3e38
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    model, against = (str(broken), base) if spoilt == "measured" else (base, str(broken))
    with pytest.raises(ModelError, match=r"^The logits of .*broken are NaN or infinite"):
        measure(model, against=against, out=tmp_path / "out", **sets)
    assert not (tmp_path / "out").exists()
