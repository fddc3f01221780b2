"""The tensors of an adapter folder: read by plain name, and written as they were."""

from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from moored.errors import InputError, ModelError
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.stored_files import ADAPTER_FILE, adapter_file
from moored.huggingface.models.weights import copy_companions, disk_errors, iterate_file


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
    folder holds of the base's own weights, such as an embedding under an adapter, stays as it is.

    Raises:
        ModelError: the model lacks a tensor of the original.
    """
    assert isinstance(model, PeftModel)
    now = {plain_name(n): t for n, t in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    base = {plain_name(name) for name in model.state_dict()}
    tensors = {}
    for name, tensor in _load_tensors(original).items():
        new = now.get(plain_name(name), tensor if plain_name(name) in base else None)
        if new is None:
            raise ModelError(f"The model in memory has no {name}, which the adapter {original} holds; load it again.")
        # Cloned, since some kinds share one tensor between layers, which safetensors does not write.
        tensors[name] = new.detach().to("cpu", tensor.dtype, copy=True).contiguous()
    copy_companions(original, folder)
    with disk_errors():
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
