"""The compact files come back as what was written."""

import json

from benchmarks import compact_files as files

RUN = {
    "arm": "plain", "seed": 0, "key": "now", "plan": {"steps": 30},
    "labels": {"JailbreakBench": ["complied", "refused", "incoherent", "empty"], "XSTest safe": []},
    "correct": {"SST-2": [True, False, False]},
    "drift": {"refusal_log_odds": [0.25, -1.0]},
}  # fmt: skip


def test_runs_come_back_from_one_line_each_and_what_they_share_is_written_once(tmp_path):
    runs = {"b/plain-seed0": RUN, "aligned": {"arm": "aligned", "key": "now", "labels": {}}}
    runs["a/plain-seed1"] = {**RUN, "seed": 1, "plan": {"steps": 10}}
    files.write_arms(tmp_path, runs)
    assert files.read_arms(tmp_path) == runs
    shared, *lines = map(json.loads, (tmp_path / files.ARMS).read_text().splitlines())
    assert shared == {"shared": {"key": "now"}}
    assert [line["name"] for line in lines] == ["a/plain-seed1", "aligned", "b/plain-seed0"]
    assert lines[0]["labels"]["JailbreakBench"] == "crie" and lines[0]["correct"]["SST-2"] == "100"
    assert "key" not in lines[0]


def test_a_field_that_one_run_lacks_is_not_shared(tmp_path):
    runs = {"a": {"threads": 1, "key": "now"}, "b": {"key": "now"}}
    files.write_arms(tmp_path, runs)
    assert files.read_arms(tmp_path) == runs


def test_a_trial_without_runs_has_none(tmp_path):
    assert files.read_arms(tmp_path) == {}


def test_labels_come_back_in_their_order(tmp_path):
    rows = [
        {"model": model, "set": name, "prompt_sha256": f"{name}{number}", "label": label}
        for model in ("base", "aligned")
        for name in ("safe", "harmful")
        for number, label in enumerate(files.LETTERS)
    ]
    files.write_labels(tmp_path / "labels.jsonl", rows)
    assert files.read_labels(tmp_path / "labels.jsonl") == rows
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 4


def test_a_table_takes_few_lines_and_keeps_its_values(tmp_path):
    rows = [{"rate": 0.5, "seeds": [{"rate": number / 7} for number in range(3)]} for _ in range(9)]
    table = {"é": rows, "empty": {}, "none": None, "long": list(range(200))}
    files.write_table(tmp_path / "table.json", table)
    text = (tmp_path / "table.json").read_text()
    assert json.loads(text) == table and list(json.loads(text)) == list(table)
    assert len(text.splitlines()) == 2 + 2 + 9 + 3 and '"é"' in text
