"""The tensors of an adapter folder: read by plain name, and written as they were."""

import re
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from moored.errors import InputError, ModelError
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.stored_files import ADAPTER_FILE, adapter_file
from moored.huggingface.models.weights import copy_companions, disk_errors, iterate_file

_ADAPTER_NAME = re.compile(r"\.default(?=\.|$)")
"""Some files name the adapter within the tensors' names, which PEFT allows."""


def _load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter as its file names them; pickled ones are refused."""
    return dict(iterate_file(adapter_file(folder)))


def load_factors(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter by plain name (no wrapper prefixes, no adapter name)."""
    return {plain_name(name): tensor for name, tensor in _load_tensors(folder).items()}


def refuse_lm_head(target_modules: object) -> None:
    """Raises InputError when LoRA is asked for on the output head, which SFTTrainer cannot train."""
    names = [target_modules] if isinstance(target_modules, str) else list(target_modules or ())  # type: ignore[call-overload]
    if any(str(name).rpartition(".")[2] == "lm_head" for name in names):
        raise InputError("LoRA on lm_head cannot be trained by SFTTrainer; leave lm_head out of target_modules.")


def save_adapter_like(original: Path, model: nn.Module, folder: Path) -> None:
    """Writes a model's adapter with the names, the precisions and the other files of the folder it came from.

    PEFT itself would save a bf16 adapter as fp32 and write the machine's path of the base into the config. What the
    folder holds of the base's own weights, such as an embedding under an adapter, stays as it is. Experts that it holds
    one by one, as transformers 4 had them, are written as PEFT stacks them now.

    Raises:
        ModelError: the model lacks a tensor of the original.
    """
    assert isinstance(model, PeftModel)
    # By the exact names: the factors of two experts' weights differ in no more than a `base_layer`.
    trained, held = get_peft_model_state_dict(model, save_embedding_layers=False), model.state_dict()
    stored = {name: tensor.dtype for name, tensor in _load_tensors(original).items()}
    written = {name: trained.get(_ADAPTER_NAME.sub("", name), held.get(name)) for name in stored}
    lost = [name for name, tensor in written.items() if tensor is None]
    copy_companions(original, folder)
    if lost:
        _write_config_in_memory(model, folder, f"{lost[0]}, which the adapter {original} holds")
        written = trained
    widest = max(stored.values(), key=lambda dtype: dtype.itemsize)
    # Copied, since some kinds share one tensor between layers, which safetensors does not write.
    tensors = {
        name: tensor.detach().to("cpu", stored.get(name, widest), copy=True).contiguous()
        for name, tensor in written.items()
        if tensor is not None
    }
    with disk_errors():
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})


def _write_config_in_memory(model: PeftModel, folder: Path, lost: str) -> None:
    """Writes the configuration of experts that PEFT has stacked.

    Raises:
        ModelError: it has not, so that this is not why a tensor is `lost`.
    """
    config = model.peft_config["default"]
    if not getattr(config, "target_parameters", None):
        raise ModelError(f"The model in memory has no {lost}; load it again.")
    config.inference_mode = True
    config.save_pretrained(str(folder))
