"""An adapter applied to its base: every tensor of its file finds a place, and every place a tensor.

PEFT warns of the one and is silent about the other. The same check without numbers, on the skeleton of a model, tells
before long work whether an adapter fits and can be folded.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftModelForCausalLM, get_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from moored.errors import ModelError, first_line
from moored.huggingface.models.adapter_config import CONFIG, load_adapter_config
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.weights import stored_tensors

_PREFIX = "base_model.model."
_SHARED = "vblora_vector_bank"
"""A tensor that layers share: PEFT finds it in the file once and misses it in each layer."""
_MADE_LATER = "lora_monteclora_sampler"
"""A part of an adapter that PEFT makes only where there are numbers."""
_MISFIT = re.compile(r"size mismatch for (\S+): .*?Size\(\[(.*?)\]\) from checkpoint, .*?Size\(\[(.*?)\]\)", re.DOTALL)


def lay_over(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> PeftModel:
    """The model under an adapter whose every tensor has found its place.

    The model gets the adapter's vocabulary where that was trained with another one and brings its embeddings. Where the
    model is a skeleton on the meta device, so is the result.

    Raises:
        ModelError: the adapter is broken, or for another base.
    """
    config = load_adapter_config(folder)
    config.inference_mode = not trainable
    is_skeleton = model.device.type == "meta"
    if is_skeleton and isinstance(config, LoraConfig):
        config.init_lora_weights = True  # Others compute something from weights.
    _require_numbers(folder)
    take_vocabulary(model, folder)
    modules = {name for name, _ in model.named_modules()}
    with _one_sentence(folder, config), warnings.catch_warnings():
        # It says that folding such an adapter goes wrong, which `fold` sees to.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        # Whatever task its configuration names: the model is one that continues texts.
        over = PeftModelForCausalLM(model, config, low_cpu_mem_usage=is_skeleton)
        loaded = over.load_adapter(
            str(folder),
            "default",
            is_trainable=trainable,
            low_cpu_mem_usage=is_skeleton,
            torch_device="cpu" if is_skeleton else None,
            key_mapping=getattr(model, "_checkpoint_conversion_mapping", {}),
        )
    missing = [name for name in loaded.missing_keys if _SHARED not in name]
    unexpected = [name for name in loaded.unexpected_keys if not (is_skeleton and _MADE_LATER in name)]
    _require_places(folder, unexpected, missing, modules)
    _require_biases(folder, over, config)
    return over


def _require_numbers(folder: Path) -> None:
    """Raises ModelError for factors in integers, which PEFT would take for numbers without their scales."""
    for name, (_, kind) in stored_tensors(folder).items():
        if re.search(r"\.lora_(?:embedding_)?[AB]\b", name) and "F" not in kind:
            raise ModelError(f"The adapter {folder} holds integers ({name}, say); save it in a floating-point type.")


def take_vocabulary(model: Any, folder: Path) -> None:
    """Resizes the ends of a model to those that an adapter brings along.

    Raises:
        ModelError: rows would be added that the adapter does not hold.
    """
    stored = {plain_name(name): shape for name, (shape, _) in stored_tensors(folder).items()}
    ends = {id(end): name for end, name in _ends(model)}
    rows = {name: stored[f"{name}.weight"][0] for name in ends.values() if f"{name}.weight" in stored}
    size = model.get_input_embeddings().weight.shape[0]
    new = max(rows.values(), default=size)
    if new == size:
        return
    missing = sorted(set(ends.values()) - rows.keys())
    if new > size and missing and not model.config.get_text_config().tie_word_embeddings:
        raise ModelError(
            f"The adapter {folder} was trained with a vocabulary of {new} and lacks the new rows of {missing[0]}; save "
            "it again with all embeddings, by save_embedding_layers=True or modules_to_save."
        )
    model.resize_token_embeddings(new, mean_resizing=False)


def _ends(model: Any) -> Iterator[tuple[nn.Module, str]]:
    names = {id(module): name for name, module in model.named_modules()}
    for end in (model.get_input_embeddings(), model.get_output_embeddings()):
        if end is not None:
            yield end, names[id(end)]


@contextmanager
def _one_sentence(folder: Path, config: PeftConfig) -> Iterator[None]:
    """Turns what PEFT says of an adapter that it cannot apply, by whatever exception, into ModelError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(_sentence(error, folder, config)) from error


def _sentence(error: Exception, folder: Path, config: PeftConfig) -> str:
    misfit = _MISFIT.search(str(error))
    if misfit is not None:
        return _of_another_size(folder, config, *misfit.groups())
    if isinstance(error, KeyError) and str(error.args[0]).startswith(_PREFIX):
        return f"The adapter {folder} lacks {plain_name(error.args[0])}, which its {CONFIG} calls for; save it again."
    if "not found in the base model" in str(error):
        return f"The adapter {folder} is for another base: {first_line(error)}."
    return f"PEFT cannot apply the adapter {folder} to this model ({first_line(error)}); check its {CONFIG}."


def _of_another_size(folder: Path, config: PeftConfig, name: str, stored: str, wanted: str) -> str:
    name, factor = plain_name(name), re.search(r"\.lora_(?:embedding_)?([AB])\b", name)
    there, here = stored.split(", "), wanted.split(", ")
    if "0" in there:
        return (
            f"{name} of the adapter {folder} is empty, as DeepSpeed leaves it where shards are not gathered; save it "
            "again from the gathered weights."
        )
    rank = 0 if factor is not None and factor[1] == "A" else 1
    is_matrix = len(there) == len(here) == 2
    if factor is not None and is_matrix and isinstance(config, LoraConfig) and there[1 - rank] == here[1 - rank]:
        return (
            f"{name} of the adapter {folder} has the rank {there[rank]}, but its {CONFIG} says {here[rank]}; "
            "correct r or rank_pattern there."
        )
    return f"The adapter {folder} is for another base: {name} is ({stored}), where this model needs ({wanted})."


def _require_places(folder: Path, unexpected: Sequence[str], missing: Sequence[str], modules: set[str]) -> None:
    """Raises ModelError for tensors without a place, or places without a tensor, saying which of the reasons it is."""
    if unexpected:
        raise ModelError(f"The adapter {folder} {_why_unexpected(unexpected[0], modules)}.")
    if missing:
        name = missing[0].removeprefix(_PREFIX).replace(".default", "")
        raise ModelError(
            f"The adapter {folder} lacks {len(missing)} of the tensors that its {CONFIG} calls for ({name}, say); "
            "fetch it again, or name only its modules under target_modules."
        )


def _why_unexpected(name: str, modules: set[str]) -> str:
    module, factor, _ = plain_name(name).partition(".lora_")
    if not factor:
        return f"holds {name}, which has no place in this model; save it again with this version of PEFT"
    if module in modules and name.startswith(_PREFIX + module):
        return (
            f"holds tensors of {module}, which its {CONFIG} does not name, so that PEFT would leave them out; name it "
            "under target_modules"
        )
    if module in modules or any(each.endswith(f".{module}") for each in modules):
        return (
            f"names its tensors otherwise than PEFT does ({name}, say), so that they would have no effect; save it "
            "again from a model without torch.compile or other wrappers"
        )
    return f"is for another base: this model has no module {module}"


def _require_biases(folder: Path, over: PeftModel, config: PeftConfig) -> None:
    """Raises ModelError where trained biases are missing, which PEFT does not count."""
    if getattr(config, "bias", "none") == "none":
        return
    stored = {plain_name(name) for name in stored_tensors(folder)}
    wanted = [plain_name(name) for name in get_peft_model_state_dict(over, save_embedding_layers=False)]
    missing = [name for name in wanted if name.endswith(".bias") and name not in stored]
    if missing:
        raise ModelError(f"The adapter {folder} lacks {missing[0]}, though its {CONFIG} trains biases; fetch it again.")
