"""Models as files and in memory: loading, adapters, names, weights read key by key."""

from moored.huggingface.models.adapter_config import read_adapter_config
from moored.huggingface.models.adapter_fit import lay_over
from moored.huggingface.models.adapter_updates import (
    adapter_updates,
    stack_adapters,
    write_updates,
)
from moored.huggingface.models.adapters import refuse_lm_head, save_adapter_like
from moored.huggingface.models.base_direction import BaseDirection, MatrixDirection, find_base_direction
from moored.huggingface.models.kept_tensors import dtypes_as_stored, require_kept, require_same_tensors
from moored.huggingface.models.load import (
    ModelSource,
    adapter_base,
    best_device,
    bf16_is_native,
    checkpoint_folder,
    context_length,
    load_model,
    load_tokenizer,
    refuse_beyond,
    require_chat_template,
    require_fit,
    require_tokens,
    transposed_weights,
)
from moored.huggingface.models.merged_adapter import (
    folded_adapter,
    make_whole,
    refuse_partial,
    remember_folded,
    unstackable,
)
from moored.huggingface.models.merged_weights import FoldedWeights, difference
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.parameter_location import Place, place_of, places, refuse_stacked
from moored.huggingface.models.stored_files import weight_files
from moored.huggingface.models.weights import (
    StoredWeights,
    copy_companions,
    disk_errors,
    iterate_weights,
    refuse_non_finite,
    require_finite,
    rewrite_weights,
    stored_dtypes,
)

__all__ = [
    "BaseDirection",
    "FoldedWeights",
    "MatrixDirection",
    "ModelSource",
    "Place",
    "StoredWeights",
    "adapter_base",
    "adapter_updates",
    "best_device",
    "bf16_is_native",
    "checkpoint_folder",
    "context_length",
    "copy_companions",
    "difference",
    "disk_errors",
    "dtypes_as_stored",
    "find_base_direction",
    "folded_adapter",
    "iterate_weights",
    "lay_over",
    "load_model",
    "load_tokenizer",
    "make_whole",
    "place_of",
    "places",
    "plain_name",
    "read_adapter_config",
    "refuse_beyond",
    "refuse_lm_head",
    "refuse_non_finite",
    "refuse_partial",
    "refuse_stacked",
    "remember_folded",
    "require_chat_template",
    "require_finite",
    "require_fit",
    "require_kept",
    "require_same_tensors",
    "require_tokens",
    "rewrite_weights",
    "save_adapter_like",
    "stack_adapters",
    "stored_dtypes",
    "transposed_weights",
    "unstackable",
    "weight_files",
    "write_updates",
]
