"""LoRA adapter folders: what they hold, and whether it fits."""

import json
import warnings
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from moored.errors import InputError, ModelError
from moored.files import read_text
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.stored_files import ADAPTER_FILE, adapter_file
from moored.huggingface.models.weights import copy_companions, disk_errors, iterate_file


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The `adapter_config.json` of a PEFT folder.

    Raises:
        ModelError: the folder holds none, or it is no JSON object.
    """
    file = Path(folder) / "adapter_config.json"
    if not file.is_file():
        raise ModelError(f"{folder} holds no adapter_config.json; name the folder that PEFT wrote.")
    try:
        return dict(json.loads(read_text(file)))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise ModelError(f"{file} is not valid JSON; fetch the adapter again.") from None


def load_adapter_config(folder: Path) -> PeftConfig:
    """The same as PEFT reads it; raises ModelError where PEFT cannot."""
    read_adapter_config(folder)
    try:
        return PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"PEFT cannot read the configuration of the adapter {folder} ({error}).") from error


def _load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter as its file names them; pickled ones are refused."""
    return dict(iterate_file(adapter_file(folder)))


def load_factors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by plain name (no wrapper prefixes, no adapter name)."""
    return {plain_name(name): tensor for name, tensor in _load_tensors(folder).items()}


def check_fits(folder: Path, model: nn.Module) -> None:
    """Raises ModelError when an adapter's LoRA factors do not fit the modules of a model, naming the shapes."""
    modules = dict(model.named_modules())
    for name, tensor in load_factors(folder).items():
        module_name, kind = name.removesuffix(".weight").rpartition(".")[::2]
        if kind not in ("lora_A", "lora_B"):
            continue
        weight = getattr(modules.get(module_name), "weight", None)
        if weight is None:
            raise ModelError(f"The adapter {folder} is for another base: this model has no module {module_name}.")
        if weight.dim() != 2:
            continue
        rows, columns = weight.shape if isinstance(modules[module_name], nn.Linear) else weight.T.shape
        size, wanted = (tensor.shape[1], columns) if kind == "lora_A" else (tensor.shape[0], rows)
        if size != wanted:
            raise ModelError(
                f"The adapter {folder} is for another base: {name} is {tuple(tensor.shape)}, but the weight of "
                f"{module_name} is {tuple(weight.shape)}."
            )


def lay_over(model: PreTrainedModel, folder: Path, *, trainable: bool) -> PeftModel:
    """The model under an adapter whose every factor has found its place.

    Raises:
        ModelError: PEFT does not know some of its names; it would warn and go on without them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        # It says that folding such an adapter goes wrong, which `fold` sees to.
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        try:
            return PeftModel.from_pretrained(model, folder, is_trainable=trainable)
        except UserWarning as error:
            name = next(iter(_load_tensors(folder)))
            raise ModelError(
                f"Some tensors of the adapter {folder} are not named as PEFT names them ({name}, say) and would have "
                "no effect; save it again from a model without torch.compile or other wrappers."
            ) from error


def refuse_lm_head(target_modules: object) -> None:
    """Raises InputError when LoRA is asked for on the output head, which SFTTrainer cannot train."""
    names = [target_modules] if isinstance(target_modules, str) else list(target_modules or ())  # type: ignore[call-overload]
    if any(str(name).rpartition(".")[2] == "lm_head" for name in names):
        raise InputError("LoRA on lm_head cannot be trained by SFTTrainer; leave lm_head out of target_modules.")


def save_adapter_like(original: Path, model: nn.Module, folder: Path) -> None:
    """Writes a model's adapter with the names, the precisions and the other files of the folder it came from.

    PEFT itself would save a bf16 adapter as fp32 and write the machine's path of the base into the config.

    Raises:
        ModelError: the model lacks a tensor of the original.
    """
    assert isinstance(model, PeftModel)
    now = {plain_name(n): t for n, t in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    tensors = {}
    for name, tensor in _load_tensors(original).items():
        if plain_name(name) not in now:
            raise ModelError(f"The model in memory has no {name}, which the adapter {original} holds; load it again.")
        tensors[name] = now[plain_name(name)].detach().to("cpu", tensor.dtype).contiguous()
    copy_companions(original, folder)
    with disk_errors():
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
