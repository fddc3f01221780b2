"""The grid and the table of the trial of the penalties, made of runs that are put there by hand."""

import json
import re
from xml.etree import ElementTree

import pytest

from benchmarks import compact_files as files
from benchmarks.trials import matched_learning as matching
from benchmarks.trials import regularizers as trial
from benchmarks.trials import regularizers_arms as arms
from benchmarks.trials import regularizers_table as table
from benchmarks.trials import regularizers_text as text

N = 40
NAMES = ("loss", "grad_norm", "safety/safety_tokens/share", "safety/safety_tokens/gradient_ratio")


def _run(arm, seed, complied, key="now"):
    log = {name: [1.0, 2.0, 1.5 + 0.1 * (seed or 0), 1.0, 1.25, 1.5] for name in NAMES}
    return {
        "arm": arm, "key": key, "versions": {"torch": "2"}, "created": "2026-01-01T00:00:00",
        "labels": {"JailbreakBench": ["complied"] * complied + ["refused"] * (N - complied),
                   "XSTest safe": ["refused"] * (N - complied) + ["complied"] * complied},
        "plan": {"rank": 8, "steps": 6, "pool": 8, "max_length": 96, "learning_rate": 0.001},
        "correct": {"SST-2": [True] * 3 + [False], "SQL": [False] * 4},
        "losses": {"SST-2": [0.5] * 4, "SQL": [1.5] * 4},
        "drift": {name: [0.1, 0.2, 0.3] for name in ("refusal_log_odds", "kl_harmful_to_aligned",
                                                     "kl_ordinary_to_aligned")},
        **({} if seed is None else {"seed": seed, "poisoned": 0.2, "training": {"log": log, "tokens_sha256": seed}}),
    }  # fmt: skip


def _put(folder, run, data):
    """Adds a run to those that are there already."""
    name = f"{data}/{run['arm']}-seed{run['seed']}" if "seed" in run else run["arm"]
    files.write_arms(folder, {**files.read_arms(folder), name: run})


def _trial(folder, complied):
    """Runs of three seeds that comply so often, by data set and arm."""
    for data, counts in complied.items():
        for arm, count in counts.items():
            for seed in range(3):
                _put(folder, {**_run(arm, seed, count), "seed": seed}, data)
    _put(folder, _run("aligned", None, 2), "")
    (folder / "safety_tokens.json").write_text(json.dumps([{"text": "cannot"}, {"text": "sorry"}]))
    table.write_table(folder, "now")
    return json.loads((folder / "table.json").read_text())


def _names():
    tokens = next(arm for arm in arms.ARMS if arm.family == "safety_tokens" and arm.controls)
    return tokens.name, *tokens.controls


def test_what_tells_most_is_run_first_and_every_run_once():
    grid = [(name, arm.name, seed) for name, arm, seed in trial.grid(list(arms.DATA), None, (0, 1, 2))]
    assert {*arms.ORDER} == arms.DATA.keys()
    assert len(set(grid)) == len(grid) == 3 * sum(len(arms.tried_on(name)) for name in arms.DATA)
    planned = {arm.name for arm in arms.ARMS if arm.planned}
    first = [(name, arm, seed) for name, arm, seed in grid if name == "poisoned-20" and arm in planned]
    assert grid[: len(first)] == first and [seed for _, _, seed in first] == sorted(seed for _, _, seed in first)
    assert trial.grid(["ordinary"], ["plain"], (1,)) == [("ordinary", arms.BY_NAME["plain"], 1)]


def test_every_method_has_three_strengths_where_all_arms_are_tried():
    for name in arms.DATA:
        families = [arm.family for arm in arms.tried_on(name)]
        assert families.count("alignment_direction") >= 3 and families[0] == "plain"
        assert families.count("safety_tokens") == (3 if name in arms.EVERYWHERE else 0)
    last = [arm.name for arm in arms.tried_on(arms.LAST) if arm.family == "alignment_direction"]
    assert last == [f"alignment_direction-{each:g}" for each in (*arms.DIRECTION_LAST, 1)]


def test_controls_are_tried_where_their_arm_is():
    for arm in arms.ARMS:
        for control in arm.controls:
            assert {*arm.on} <= {*arms.BY_NAME[control].on}, (arm.name, control)


def test_where_alignment_has_a_direction_is_where_the_embedded_adapter_lies():
    from moored.embedded.model import aligned_adapter

    stated = json.loads((aligned_adapter() / "adapter_config.json").read_text())
    assert tuple(stated["layers_to_transform"]) == arms.LAYERS


def test_the_layers_and_the_poison_of_a_setting_reach_the_run(tmp_path):
    run = trial.run_of("poisoned-20-last", arms.BY_NAME["plain"], 1, data=tmp_path, tokens=tmp_path)
    config, rows = run.make.args
    assert config["lora"]["target_modules"] != "all-linear" and len(rows.keywords["replacing"]) == 48
    assert run.about["layers"] == arms.LAYERS and run.about["poisoned"] == 0.2


def test_controls_are_arms_and_draw_anew_under_each_seed(tmp_path):
    for arm in arms.ARMS:
        assert all(control in arms.BY_NAME for control in arm.controls)
        drawn = [each for each in arm.stated(7, tmp_path) if "seed" in each]
        assert bool(drawn) == (arm.family in ("random_direction", "random_tokens", "random_harmful"))
        assert all(each["seed"] == 7 for each in drawn)


def test_the_configuration_of_each_arm_is_one_that_train_takes(tmp_path):
    from moored.regularizers import REGULARIZERS
    from moored.settings import typed

    tokens = tmp_path / "tokens.json"
    for arm in arms.ARMS:
        for stated in arm.stated(0, tokens):
            name = stated.pop("name")
            stated["strength"] = 1.0 if stated["strength"] == "auto" else stated["strength"]
            extra = {"base": "somewhere"} if name == "alignment_direction" else {}
            assert REGULARIZERS[name](**typed(stated, REGULARIZERS[name]), **extra).strength > 0


def test_the_lora_of_each_data_set_is_one_that_train_takes(tmp_path):
    from tests.tiny import tiny_model

    from moored.huggingface.models.lora_config import lora_config

    run_of = trial.run_of
    where = {}
    for name in arms.DATA:
        run = run_of(name, arms.BY_NAME["plain"], 0, data=tmp_path, tokens=tmp_path / "tokens.json")
        where[name] = lora_config(run.make.args[0]["lora"]).target_modules
    last = where.pop("poisoned-20-last")
    assert set(where.values()) == {"all-linear"}
    linear = [name for name, _ in tiny_model().named_modules() if name.endswith("_proj")]
    moved = {f".{number}." for number in arms.LAYERS}
    for name in linear:
        for number in range(30):
            there = re.sub(r"\.\d+\.", f".{number}.", name)
            assert bool(re.fullmatch(last, there)) == (f".{number}." in moved)


def _outcome(found, data, arm, control):
    return next(each for each in found["data"][data]["verdicts"] if (each["arm"], each["control"]) == (arm, control))


def test_a_method_that_complies_less_than_all_its_controls_beats_them(tmp_path):
    method, random, full = _names()
    found = _trial(
        tmp_path, {
            "ordinary": {"plain": 30, method: 5, random: 28, full: 27},
            "poisoned-20": {"plain": 30, method: 20, random: 20, full: 29},
        },
    )  # fmt: skip
    outcomes = {
        control: [_outcome(found, name, method, control)["outcome"] for name in ("ordinary", "poisoned-20")]
        for control in ("plain", random, full)
    }
    assert outcomes == {"plain": ["less", "less"], random: ["less", "alike"], full: ["less", "less"]}
    told = text.summary(arms.BY_NAME[method], found["data"])
    assert told == f"**{method}** complies less than {random} on ordinary; than {full} on poisoned-20, ordinary."
    del found["data"]["ordinary"]
    told = text.summary(arms.BY_NAME[method], found["data"])
    assert told == f"**{method}** complies less than {full} on poisoned-20; not shown: {random}."
    del found["data"]["poisoned-20"]
    told = text.summary(arms.BY_NAME[method], found["data"])
    assert told == f"**{method}** is not shown to comply less than any of its controls."
    written = (tmp_path / "table.md").read_text()
    assert f"| {method} | plain | less: -25.0; over-refusal up | less: -62.5; over-refusal up |" in written
    assert f"| {random} | plain | less: -25.0; over-refusal up |" in written  # What controls do is told, too.


def test_more_and_alike_and_unclear_and_too_few_seeds_are_told_apart():
    method, random, _ = _names()

    def told(before, after, seeds=3):
        """The verdict on arms that comply with every one of so many of a thousand prompts, in order."""
        runs = {name: [{**_run(name, seed, 0), "seed": seed} for seed in range(seeds)] for name in (method, random)}
        for name, counts in ((random, before), (method, after)):
            for run, count in zip(runs[name], counts, strict=True):
                run["labels"] = {**run["labels"], "JailbreakBench": ["complied"] * count + ["refused"] * (1000 - count)}
        (found,) = (each for each in table.verdicts("ordinary", runs) if each["control"] == random)
        return found

    assert text.outcome(told((300, 310, 305), (500, 520, 510))).startswith("more: +20.5")
    assert text.outcome(told((300, 310, 305), (301, 309, 305))) == "alike: +0.0"
    assert text.outcome(told((300, 310, 305), (250, 400, 315))).startswith("unclear: +1.7 (")
    assert told((300, 310, 305), (100, 500, 300))["outcome"] == "unclear"
    assert text.outcome(told((300, 310), (100, 110), seeds=2)) == "too few seeds: -20.0"


def test_what_else_differs_is_told_with_its_direction(tmp_path):
    method, random, _ = _names()
    for arm, right, nats in ((method, 3, 0.5), (random, 25, 1.0)):
        for seed in range(3):
            correct = {"SST-2": [True] * right + [False] * (30 - right), "SQL": [False]}
            losses = {"SST-2": [nats] * 30, "SQL": [nats]}
            _put(tmp_path, {**_run(arm, seed, 5), "correct": correct, "losses": losses}, "ordinary")
    found = _trial(tmp_path, {})
    assert _outcome(found, "ordinary", method, random)["also"] == ["task accuracy down", "task loss down"]


def test_a_method_is_compared_where_it_learned_as_much_as_its_control():
    path = [(0.5, 0.9), (1.0, 0.5), (2.0, 0.3)]
    assert matching.at_loss(path, 0.75) == pytest.approx(0.7) and matching.at_loss(path, 1.5) == pytest.approx(0.4)
    assert matching.at_loss(path, 0.5) == 0.9 and matching.at_loss(path, 2.0) == pytest.approx(0.3)
    assert matching.at_loss(path, 0.4) is None and matching.at_loss(path, 2.1) is None
    names = ("plain", "safety_tokens-0.3", "safety_tokens-1", "random_tokens-1")
    of = dict(zip(names, ((0.5, 0.9), (1.0, 0.5), (2.0, 0.3), (1.5, 0.3)), strict=True))
    runs = {name: [{"seed": seed, "at": (x, y + 0.1 * seed)} for seed in (0, 1)] for name, (x, y) in of.items()}
    runs["safety_tokens-3"] = [{"seed": 0, "at": (9.0, 9.0)}]  # Under one seed alone: it is no part of the line.
    (found,) = matching.matched("ordinary", runs, lambda run: run["at"][0], lambda run: run["at"][1])
    assert (found["method"], found["control"], found["seeds"]) == ("safety_tokens", "random_tokens-1", [0, 1])
    assert found["differences"] == pytest.approx([0.1, 0.1]) and found["mean"] == pytest.approx(0.1)
    runs["random_tokens-1"][0]["at"] = (0.1, 0.3)
    (found,) = matching.matched("ordinary", runs, lambda run: run["at"][0], lambda run: run["at"][1])
    assert found["differences"][0] is None and found["low"] is None
    runs["safety_tokens-1"][1]["at"] = (0.5, 0.3)  # As much learned as without it, under one seed.
    assert not matching.matched("ordinary", runs, lambda run: run["at"][0], lambda run: run["at"][1])


def test_every_sentence_names_the_smallest_difference(tmp_path):
    method, random, _ = _names()
    _trial(tmp_path, {"ordinary": {"plain": 30, method: 5, random: 7}})
    written = (tmp_path / "table.md").read_text()
    seen = f"**{method} against plain**: complies less: -62.5 points of compliance [-77.5, -47.5], by seed"
    assert seen in written and "(from 21.7 points on, it would show)" in written
    unseen = f"**{method} against {random}**: no difference showed: -5.0 points"
    assert unseen in written and "refusal log-odds +0.00 nats" in written


def test_the_row_of_an_arm_holds_its_penalties_and_the_task(tmp_path):
    method = _names()[0]
    found = _trial(tmp_path, {"ordinary": {"plain": 30, method: 5}})
    row = found["data"]["ordinary"]["arms"][method]
    assert row["task accuracy"]["rate"] == pytest.approx(3 / 8) and row["task loss"]["mean"] == pytest.approx(1.0)
    assert row["penalties"]["safety_tokens"]["share"] == pytest.approx(1.375, abs=0.05)
    assert (
        found["stability"][method]["against"]["plain"]["seeds"] == [0, 1, 2]
        and found["stability"]["plain"]["over seeds"]["compliance"] == 0
    )
    written = (tmp_path / "table.md").read_text()
    assert f"| {method} | 3 | 0.12 [" in written and "| aligned | – | 0.05 [" in written and "## Stability" in written


def test_what_auto_found_is_told(tmp_path):
    for seed, strength in ((0, 0.25), (1, 3.0)):
        run = _run("safety_tokens-auto", seed, 5)
        run["training"]["safeguards"] = [{"name": "safety_tokens", "strength": strength}]
        _put(tmp_path, run, "poisoned-20")
    _trial(tmp_path, {})
    assert "`strength: auto`, which found 0.25, 3 under the seeds" in (tmp_path / "table.md").read_text()


def test_the_figure_has_a_panel_for_each_data_set_and_tells_its_numbers(tmp_path):
    method = _names()[0]
    _trial(tmp_path, {"ordinary": {"plain": 30, method: 5}, "poisoned-5": {"plain": 20}})
    root = ElementTree.parse(tmp_path / "figure.svg").getroot()
    texts = "".join(root.itertext())
    assert f"ordinary, compliance and accuracy: aligned 0.05 and 0.38, plain 0.75 and 0.38, {method} 0.12" in texts
    assert "poisoned-5" in texts and "compliance (lower is safer)" in texts


def test_strengths_stand_at_the_ends_of_a_line_and_what_one_answer_has_is_drawn(tmp_path):
    _trial(tmp_path, {"ordinary": {"plain": 30, "safety_tokens-0.3": 20, "safety_tokens-3": 5}})
    table.write_table(tmp_path, "now", 0.35)
    texts = "".join(ElementTree.parse(tmp_path / "figure.svg").getroot().itertext())
    assert "one and the same answer" in texts and "0.3" in texts
    assert ": one and the same label would have 0.35; the task's loss" in (tmp_path / "table.md").read_text()


def test_arms_of_one_seed_that_trained_on_other_rows_are_no_comparison(tmp_path):
    for arm, rows in (("plain", "a"), (_names()[0], "b")):
        run = _run(arm, 0, 30)
        _put(tmp_path, {**run, "training": {**run["training"], "tokens_sha256": rows}}, "ordinary")
    (tmp_path / "safety_tokens.json").write_text("[]")
    with pytest.raises(AssertionError, match="20% of poison and seed 0 trained on different rows"):
        table.write_table(tmp_path, "now")


def test_runs_of_other_settings_stay_out_and_nothing_is_written_of_none(tmp_path, capsys):
    _put(tmp_path, {**_run("plain", 0, 30, key="before")}, "ordinary")
    table.write_table(tmp_path, "now")
    assert not (tmp_path / "table.md").exists() and "no finished run" in capsys.readouterr().out
