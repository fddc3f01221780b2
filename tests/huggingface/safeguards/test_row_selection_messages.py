"""What a selection announces, logs and reports, and what it refuses or notices."""

import pytest
from datasets import Dataset, IterableDataset
from tests.huggingface.safeguards.selections import SELECTION, Stock, trained_in_order
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, make_trainer, token_rows
from transformers import Trainer

from moored.errors import InactiveError, InputError
from moored.huggingface.training import SafeguardedSFTTrainer, SafeguardMixin

pytestmark = THIRD_PARTY_WARNINGS


def test_it_is_announced_logged_and_reported(tmp_path, capsys):
    trainer, _ = trained_in_order(
        tmp_path, rows=token_rows(16), safeguards=[SELECTION], per_device_train_batch_size=8, logging_steps=1,
        logging_strategy="steps",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "gradient_selection: keeps 3 of the 8 rows of each step (keep 0.4) by the rule moderate" in printed
    assert "gradient_selection kept 6 of 16 rows, with " in printed
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    for entry in (first, second):
        own = {key.rsplit("/", 1)[1]: value for key, value in entry.items() if key.startswith("safety/")}
        assert own.keys() == {"kept", "norm", "norm_kept", "length", "length_kept"}
        assert own["kept"] == 3 / 8 and own["norm"] > 0 and own["norm"] != own["norm_kept"]
    assert first["safety/gradient_selection/length"] == pytest.approx(sum(4 + n % 7 for n in range(8)) / 8)
    (report,) = trainer.safeguard_report()
    settings = {"name": "gradient_selection", "on": True, "rule": "moderate", "keep": 0.4, "seed": 0}
    lengths = {name: report.pop(name) for name in ("length", "length_kept")}
    assert report == {**settings, "rows": 16, "kept": 6}
    assert lengths["length"] == pytest.approx(sum(4 + n % 7 for n in range(16)) / 16)
    kept = [entry["safety/gradient_selection/length_kept"] for entry in (first, second)]
    assert lengths["length_kept"] == pytest.approx(sum(kept) / 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"packing": True, "packing_strategy": "wrapped", "max_length": 16}, "packing_strategy: wrapped cuts apart"),
        (
            {"packing": True, "packing_strategy": "bfd_split", "max_length": 16},
            "packing_strategy: bfd_split cuts apart",
        ),
        ({"fp16": True}, "too small for fp16"),
        ({"safeguards": [SELECTION, SELECTION]}, "gradient_selection is given twice"),
    ],
)
def test_what_cannot_be_selected_is_refused_before_training(tmp_path, settings, sentence, monkeypatch):
    if "fp16" in settings:
        monkeypatch.setattr(
            "transformers.training_args.TrainingArguments._validate_args", lambda self: None, raising=False
        )
    with pytest.raises(InputError, match=sentence):
        make_trainer(tmp_path, rows=token_rows(8), **{"safeguards": [SELECTION], **settings})


def test_a_single_row_leaves_nothing_to_choose(tmp_path):
    with pytest.raises(InactiveError, match="has only one; raise per_device_train_batch_size"):
        make_trainer(tmp_path, rows=token_rows(4), safeguards=[SELECTION], per_device_train_batch_size=1)


@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_a_single_document_a_step_is_noticed_at_the_end(tmp_path):
    trainer = make_trainer(
        tmp_path,
        rows=token_rows(4),
        safeguards=[SELECTION],
        per_device_train_batch_size=1,
        padding_free=True,
        max_length=None,
    )
    with pytest.raises(InactiveError, match="left no row out"):
        trainer.train()


class Dividing(Stock):
    """It cannot count tokens."""

    def __init__(self, **kwargs):
        super().__init__(counts=False, **kwargs)


def test_a_trainer_that_divides_by_batches_is_refused(tmp_path):
    settings = {"rows": token_rows(8, length=8), "lora": None, "safeguards": [SELECTION]}
    trainer = make_trainer(tmp_path, trainer_class=Dividing, per_device_train_batch_size=4, **settings)
    with pytest.raises(InputError, match="divides by the micro-batches"):
        trainer.train()


def test_a_trainer_that_never_hands_over_its_batches_is_noticed_at_once(tmp_path, monkeypatch):
    """As another version of transformers might, which fetches them another way."""
    monkeypatch.setattr(SafeguardMixin, "get_batch_samples", Trainer.get_batch_samples)
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[SELECTION], per_device_train_batch_size=4)
    with pytest.raises(InactiveError, match="got no rows"):
        trainer.train()
    assert trainer.state.global_step == 0


class OtherLoss(SafeguardedSFTTrainer):
    """It trains half of the loss."""

    def compute_loss(self, *args, **kwargs):
        return 0.5 * super().compute_loss(*args, **kwargs)


def _stream(rows):
    return IterableDataset.from_generator(lambda: iter(rows.to_list()))


def _unlabelled_first(rows):
    first = {"input_ids": [5, 6, 7], "labels": [-100] * 3}
    return Dataset.from_list([first, first, *rows.to_list()])


@pytest.mark.parametrize("change", [_stream, _unlabelled_first])
def test_another_loss_is_refused_at_the_first_batch_with_labels(tmp_path, change):
    trainer = make_trainer(
        tmp_path, rows=change(token_rows(8)), trainer_class=OtherLoss, safeguards=[SELECTION], max_steps=2,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, train_sampling_strategy="sequential",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"OtherLoss trains another loss \(on the first batch"):
        trainer.train()
    assert trainer.state.global_step == 0
