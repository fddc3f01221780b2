"""Which files of a folder are loaded: what is checked, hashed and repaired has to be the same files."""

import json
from pathlib import Path, PurePath

from moored.errors import ModelError
from moored.files import read_text

ADAPTER_FILE = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path | str) -> list[Path]:
    """The files that hold the weights of a folder: those that PEFT reads of an adapter, transformers of a checkpoint.

    Other safetensors files beside them are never loaded, so they do not count.

    Raises:
        ModelError: the folder is missing, lacks a file, holds only pickled weights, or its index is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"There is no folder {folder}; check the path.")
    if (folder / "adapter_config.json").is_file():
        return [adapter_file(folder)]
    files = named_files(folder)
    missing = [str(file.relative_to(folder)) for file in files if not file.is_file()]
    if missing == [WEIGHTS]:
        raise ModelError(_no_weights(folder, WEIGHTS, "save the model with transformers"))
    if missing:
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which its index names; fetch the folder again.")
    return files


def refuse_gguf(path: str) -> None:
    """Raises ModelError for a GGUF file, or a folder that holds nothing else: llama.cpp's format, quantized mostly."""
    place = Path(path)
    file = next(iter(sorted(place.glob("*.gguf"))), None) if place.is_dir() else place
    if file is None or file.suffix.lower() != ".gguf" or any(place.glob("*.safetensors*")):
        return
    raise ModelError(
        f"{path} is in the GGUF format of llama.cpp ({file.name}), whose weights are not read here; name the "
        "safetensors checkpoint that it was made from."
    )


def adapter_file(folder: Path) -> Path:
    """The one file of an adapter folder that PEFT reads without unpickling; raises ModelError where there is none."""
    file = Path(folder) / ADAPTER_FILE
    if not file.is_file():
        raise ModelError(_no_weights(folder, ADAPTER_FILE, "save the adapter with PEFT, in one file"))
    return file


def named_files(folder: Path) -> list[Path]:
    """The files that transformers would load a checkpoint folder from, whether they are there or not.

    Raises:
        ModelError: the index is broken or names what is no safetensors file inside the folder, or `config.json` names
            a file of its own.
    """
    _refuse_own_name(folder / "config.json")
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    return _indexed(folder / INDEX)


def _refuse_own_name(config: Path) -> None:
    try:
        named = json.loads(read_text(config)).get("transformers_weights") if config.is_file() else None
    except (json.JSONDecodeError, AttributeError):
        return  # transformers has a sentence for it
    if named is not None:
        raise ModelError(
            f"{config} names its own weight file (transformers_weights: {named}); name that file {WEIGHTS} and take "
            "the entry out."
        )


def _indexed(index: Path) -> list[Path]:
    try:
        found = json.loads(read_text(index))
        names = sorted(set(found["weight_map"].values()))
        inside = {name: _stays_inside(PurePath(name)) for name in names}
        found["metadata"].keys()  # transformers needs it
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index} is no index of weights; fetch the folder again.") from None
    for name in names:
        if not inside[name]:
            raise ModelError(
                f"{index} names {name}, which is no safetensors file inside its folder; put the file there, as "
                "safetensors, and name it so."
            )
    return [index.parent / name for name in names]


def _stays_inside(name: PurePath) -> bool:
    return name.suffix == ".safetensors" and not name.is_absolute() and ".." not in name.parts


def _no_weights(folder: Path, wanted: str, remedy: str) -> str:
    # Every run of a trainer leaves its arguments as a pickle, and they are no weights.
    pickled = sorted({file.name for pattern in PICKLES for file in folder.glob(pattern)} - {"training_args.bin"})
    if pickled:
        return (
            f"{folder} holds no {wanted} but pickled weights ({pickled[0]}), which can run code when they are read; "
            "convert them to safetensors."
        )
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if others:
        return f"{folder} holds no {wanted} but {others[0]}, which is not read; {remedy}."
    return f"{folder} holds no {wanted}; name a checkpoint or adapter folder."
