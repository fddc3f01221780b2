"""Models as files and in memory: loading, adapters, names, weights read key by key."""

from moored.huggingface.models.adapters import (
    check_fits,
    read_adapter_config,
    refuse_lm_head,
    save_adapter_like,
    scaled_factors,
    stack_adapters,
)
from moored.huggingface.models.load import (
    ModelSource,
    adapter_base,
    best_device,
    checkpoint_folder,
    context_length,
    load_model,
    load_tokenizer,
    require_chat_template,
    require_fit,
)
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.places import Place, place_of, places
from moored.huggingface.models.reversion import Reversion, reversion
from moored.huggingface.models.weights import (
    StoredWeights,
    copy_companions,
    disk_errors,
    iterate_weights,
    require_finite,
    stored_dtypes,
    weight_files,
)

__all__ = [
    "ModelSource",
    "Place",
    "Reversion",
    "StoredWeights",
    "adapter_base",
    "best_device",
    "check_fits",
    "checkpoint_folder",
    "context_length",
    "copy_companions",
    "disk_errors",
    "iterate_weights",
    "load_model",
    "load_tokenizer",
    "place_of",
    "places",
    "plain_name",
    "read_adapter_config",
    "refuse_lm_head",
    "require_chat_template",
    "require_finite",
    "require_fit",
    "reversion",
    "save_adapter_like",
    "scaled_factors",
    "stack_adapters",
    "stored_dtypes",
    "weight_files",
]
