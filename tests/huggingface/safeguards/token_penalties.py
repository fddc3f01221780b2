"""What the tests of safety tokens in a trainer share."""

from tests.huggingface.training.fixtures import LORA
from tests.tiny import tiny_tokenizer
from transformers import Trainer, default_data_collator

from moored import SafetyTokens
from moored.huggingface.data import token_ids
from moored.huggingface.training import SafeguardMixin

WORDS = ("I", " canno", " help")
IDS = token_ids(WORDS, tiny_tokenizer())
WARM_LORA = {**LORA, "init_lora_weights": False}
RATE = 0.1
SETTINGS = {"per_device_train_batch_size": 4, "learning_rate": RATE, "train_sampling_strategy": "sequential"}


def holding(strength=0.5, **settings):
    """Safety tokens of the three words."""
    return SafetyTokens(strength=strength, tokens=WORDS, **settings)


class Dividing(SafeguardMixin, Trainer):
    """The stock Trainer with a model that cannot count tokens: it divides the loss by the micro-batches itself."""

    def __init__(self, **kwargs):
        kwargs.pop("peft_config")
        super().__init__(data_collator=default_data_collator, **kwargs)
        self.model_accepts_loss_kwargs = False

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["input_ids", "labels"]
