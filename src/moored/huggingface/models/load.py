"""Loading a model, its adapter and its tokenizer, with one sentence for whatever does not fit."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import is_offline_mode, snapshot_download
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from moored.errors import ModelError, first_line
from moored.files import read_text
from moored.huggingface.models.adapter_config import load_adapter_config, read_adapter_config
from moored.huggingface.models.adapter_fit import lay_over, take_vocabulary
from moored.huggingface.models.fold import fold, require_foldable
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.quantized import holds_codes, quantization, require_readable_codes, unreadable_codes
from moored.huggingface.models.stored_files import named_files, refuse_gguf, weight_files
from moored.huggingface.models.weights import refuse_non_finite, refuse_wrapped, require_finite

_NUMBER = re.compile(r"\.(\d+)(?=\.)")
"""The number of a layer, or of an expert in it."""

_NO_NUMBERS = re.compile(r"\bmeta (tensor|device|kernel)|\bdevice meta\b|\bregister_meta\b", re.IGNORECASE)
"""How PyTorch says that it lacks the numbers of a skeleton."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: a checkpoint, and an adapter laid over it if there is one."""

    path: str
    """A folder or a Hub id of a full checkpoint."""
    adapter: Path | None = None
    """A PEFT folder, or None."""
    name: str = ""
    """What the user typed for it, where that differs from `path`."""

    def describe(self) -> str:
        """A short name for people."""
        name = self.name or self.path
        return name if self.adapter is None or str(self.adapter) == name else f"{name} + {self.adapter}"


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer beside the adapter if there is one (its chat template counts), else the checkpoint's."""
    place = source.path
    if source.adapter is not None and (source.adapter / "tokenizer_config.json").is_file():
        place = str(source.adapter)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        _refuse_own_code(error, place)
        hint = "put its tokenizer files there" if os.path.isdir(place) else _not_here(place)
        raise ModelError(
            f"Cannot load the tokenizer of {place or '(no name)'} ({hint}): {first_line(error)}."
        ) from error
    if source.adapter is not None and place != str(source.adapter):
        tokenizer.chat_template = _template_beside(source.adapter) or tokenizer.chat_template
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(f"The tokenizer in {place} names neither a padding nor an end token; add one to its files.")
    return tokenizer


def require_chat_template(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raises ModelError when a tokenizer cannot render a chat, or has several templates and none of them by default."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {where} has no chat template; use a chat model, or put a chat_template.jinja "
            "beside the tokenizer."
        )
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {where} has the chat templates {', '.join(sorted(tokenizer.chat_template))} and none "
            "called default; put the one to use into a chat_template.jinja beside the tokenizer."
        )


def _template_beside(adapter: Path) -> str | None:
    """The chat template in an adapter's folder, which some tools save without the tokenizer.

    Raises:
        ModelError: the file is no JSON object with a template.
    """
    file = adapter / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    file = adapter / "chat_template.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(read_text(file))["chat_template"])
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ModelError(f'{file} holds no chat template; write {{"chat_template": …}}, or remove it.') from None


def load_model(
    source: ModelSource,
    *,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    trainable: bool = False,
    merge: bool = False,
) -> PreTrainedModel | PeftModel:
    """The model of a source, in eval mode unless it is to be trained.

    Args:
        source: the checkpoint and, laid over it, the adapter.
        dtype: precision of the weights in memory; `auto` is the checkpoint's own, but fp32 for bf16 where
            `bf16_is_native` says that this processor would have to emulate it.
        trainable: whether the adapter's factors (or, without adapter, all parameters) require gradients.
        merge: fold the adapter into the weights in memory and return a plain model. Over quantized weights, which
            folding would round once more, the adapter stays beside them.

    Raises:
        ModelError: pickled, non-finite or (to be trained) quantized weights, an adapter made for another base (names
            the shapes), or one that folding would change.
    """
    if source.adapter is not None:
        load_adapter_config(source.adapter)
        require_finite(source.adapter)
    model = _load_checkpoint(source.path, dtype)
    is_quantized = holds_codes(model)
    if not is_quantized:
        model = _in_precision(model, dtype, was_quantized=quantization(configuration(source.path)) is not None)
    elif trainable and (merge or source.adapter is None):
        raise ModelError(
            f"{source.describe()} is quantized, so its weights have no gradient; use an adapter over it, or a "
            "checkpoint in bf16."
        )
    if source.adapter is not None:
        model = lay_over(model, source.adapter, trainable=trainable and not merge)
        if merge and not is_quantized:
            model = fold(model, source.adapter, trainable=trainable)
    if source.adapter is None or (merge and not is_quantized):
        model.requires_grad_(trainable)
    return model.train(trainable)


def _in_precision(model: Any, dtype: torch.dtype | Literal["auto"], *, was_quantized: bool) -> PreTrainedModel:
    """Puts a model in a precision where loading has not: weights that were quantized come out in bf16.

    Buffers, and the parameters that transformers keeps in fp32, stay as loading has left them.
    """
    if dtype == "auto":
        return model.float() if model.dtype == torch.bfloat16 and not bf16_is_native() else model
    if was_quantized:
        kept = [part.replace("*", ".*") for part in model._get_dtype_plan(dtype)]
        for name, parameter in model.named_parameters():
            if not any(re.search(pattern, name) for pattern in kept):
                parameter.data = parameter.data.to(dtype)
    return model


def require_fit(source: ModelSource) -> None:
    """Checks a checkpoint, and an adapter against it, before long work and without reading the checkpoint's weights.

    Raises:
        ModelError: a quantized checkpoint that cannot be read here, a broken adapter, one made for another base (names
            the shapes), or one that cannot be folded.
    """
    config = configuration(source.path)
    _require_loadable_names(source.path)
    require_readable_codes(config, source.path)
    if source.adapter is None:
        return
    load_adapter_config(source.adapter)
    require_finite(source.adapter)
    try:
        with torch.device("meta"):
            over = lay_over(skeleton(source.path), source.adapter)
            if quantization(config) is None:
                require_foldable(over, source.adapter)
    except ModelError as error:
        # Some kinds compute with weights as soon as they are applied; they are checked once the weights are there.
        if not _NO_NUMBERS.search(str(error.__cause__)):
            raise


def transposed_weights(path: str) -> set[str]:
    """The names of the weights that a checkpoint's layers keep as `in × out`, as GPT-2's do."""
    modules = skeleton(path).named_modules()
    return {f"{plain_name(name)}.weight" for name, module in modules if isinstance(module, Conv1D)}


def tied_weights(path: str) -> dict[str, str]:
    """The names of the weights that are others' in a checkpoint's model, as a tied head is, with the names of those."""
    ties = skeleton(path).all_tied_weights_keys
    return {plain_name(name): plain_name(other) for name, other in ties.items()}


def skeleton(path: str) -> PreTrainedModel:
    """The model of a checkpoint without its numbers."""
    config = configuration(path)
    with torch.device("meta"), _one_sentence(path):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def configuration(path: str) -> Any:
    """The configuration of a checkpoint."""
    # Entries of a wrong type end in errors of any kind.
    with _one_sentence(path, AttributeError, TypeError, KeyError):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def context_length(source: ModelSource) -> int | None:
    """The positions that a checkpoint was made for, or None where its configuration does not say."""
    return getattr(configuration(source.path).get_text_config(), "max_position_embeddings", None)


def require_tokens(source: ModelSource, ids: Iterable[int]) -> None:
    """Raises ModelError where a model, with the vocabulary that its adapter brings, lacks one of the tokens."""
    with torch.device("meta"):
        model = skeleton(source.path)
        if source.adapter is not None:
            take_vocabulary(model, source.adapter)
    refuse_beyond(model, ids, source.describe())


def refuse_beyond(model: Any, ids: Iterable[int], name: str) -> None:
    """Raises ModelError where one of the tokens has no row in a model's embedding."""
    size, last = model.get_input_embeddings().weight.shape[0], max(ids, default=0)
    if last >= size:
        raise ModelError(
            f"The tokenizer gives the token {last}, which lies beyond the {size} tokens of {name}; use the tokenizer "
            "that belongs to the model, or the model with its resized embeddings."
        )


def checkpoint_folder(path: str) -> Path:
    """The folder of a checkpoint; that of a Hub id lies in the Hub cache.

    Raises:
        ModelError: no folder, and neither in the Hub cache nor, unless HF_HUB_OFFLINE=1 is set, on the Hub.
    """
    if os.path.isdir(path):
        return Path(path)
    with _one_sentence(path):
        return Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))


@contextmanager
def _one_sentence(path: str, *more: type[Exception]) -> Iterator[None]:
    """Turns what transformers says of a checkpoint that it cannot load into ModelError."""
    try:
        yield
    except (OSError, ValueError, SafetensorError, StrictDataclassError, *more) as error:
        _refuse_own_code(error, path)
        if "Unrecognized configuration class" in str(error):
            raise ModelError(
                f"{path} has no causal language model that transformers knows; name one that continues texts."
            ) from error
        hint = "see its files" if os.path.isdir(path) else _not_here(path)
        raise ModelError(f"Cannot load {path} as a causal language model ({hint}): {first_line(error)}.") from error


def _not_here(name: str) -> str:
    """Why a name that is no folder leads to nothing."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return "no folder here, and no name that the Hub could know"
    if is_offline_mode():
        return "no folder here, not in the Hub cache, and HF_HUB_OFFLINE=1 forbids a download"
    return "no folder here, and not to be had from the Hub"


def _refuse_own_code(error: Exception, path: str) -> None:
    """Raises ModelError where transformers failed because it may not run the code that a checkpoint brings along."""
    if "custom code" in str(error):
        raise ModelError(
            f"{path} needs program code of its own (auto_map in its files), which moored never runs; name a model "
            "whose architecture and tokenizer are part of transformers."
        ) from error


def _load_checkpoint(path: str, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    _require_loadable_names(path)
    config = configuration(path)
    require_readable_codes(config, path)
    try:
        with _one_sentence(path):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        model, found = loaded
    except ImportError as error:
        raise unreadable_codes(error, path) from error
    except RuntimeError as error:
        if "mismatched" not in str(error) and quantization(config) is not None:
            raise unreadable_codes(error, path) from error
        if "mismatched" not in str(error):
            raise
        raise misfitting(path) from error
    if found["missing_keys"]:
        # They would be random numbers.
        raise lacking(path, found["missing_keys"])
    refuse_more_layers(model, found["unexpected_keys"], path)
    refuse_non_finite(model.named_parameters(), path)
    return model


def lacking(path: str, names: Iterable[str]) -> ModelError:
    """Makes one sentence of the weights that a checkpoint does not hold."""
    refuse_wrapped(checkpoint_folder(path))
    missing = sorted(names)
    return ModelError(f"{path} lacks {len(missing)} weights ({missing[0]}, say); fetch it again.")


def misfitting(path: str) -> ModelError:
    """Makes one sentence of weights that have other shapes than the configuration says."""
    return ModelError(f"The weights in {path} do not fit its config.json; fetch both again.")


def refuse_more_layers(model: PreTrainedModel, unread: Iterable[str], path: str) -> None:
    """Raises ModelError where files hold more layers, or experts, than config.json says and transformers builds.

    Layers for multi-token prediction come after the others, too; those config.json names.
    """
    kinds = {_without_numbers(name) for name in model.state_dict()}
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    known = {name for name in unread if any(pattern.search(name) for pattern in ignored)}
    left = sorted(name for name in {*unread} - known if _without_numbers(name) in kinds)
    layers = {_NUMBER.findall(name)[0] for name in left}
    if len(layers) > (getattr(model.config.get_text_config(), "num_nextn_predict_layers", None) or 0):
        raise ModelError(
            f"{path} holds {left[0]}, which belongs to a layer that its config.json does not name; fetch config.json "
            "again."
        )


def _without_numbers(name: str) -> str:
    return _NUMBER.sub(".#", name)


def _require_loadable_names(path: str) -> None:
    """Raises ModelError where transformers would read other files than those that are checked, an adapter's even."""
    refuse_gguf(path)
    if os.path.isdir(path):
        weight_files(path)
        folder = Path(path)
    else:
        with _one_sentence(path):
            folder = Path(snapshot_download(path, allow_patterns="*.json"))
        named_files(folder)
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{path} is an adapter (it holds adapter_config.json); give its base as the model.")


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def bf16_is_native() -> bool:
    """Whether bf16 is at least as fast as fp32 here: on an accelerator, and on a CPU that oneDNN has kernels for.

    Where it has none (AVX2, say), PyTorch multiplies in bf16 by plain loops, several times slower than in fp32.
    """
    if torch.accelerator.is_available():
        return True
    # PyTorch's own compiler asks this way; there is no public name.
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def adapter_base(adapter: Path | str) -> str:
    """The checkpoint that an adapter folder names as its base.

    Raises:
        ModelError: it names none.
    """
    base = read_adapter_config(Path(adapter)).get("base_model_name_or_path")
    if not base:
        raise ModelError(f"The adapter {adapter} names no base model; give the base as the model and it as --adapter.")
    return str(base)
