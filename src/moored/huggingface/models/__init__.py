"""Models as files and in memory: loading, adapters, names, weights read key by key."""

from moored.huggingface.models.adapter_config import adapter_base, read_adapter_config
from moored.huggingface.models.adapter_fit import lay_over
from moored.huggingface.models.adapter_updates import (
    adapter_updates,
    stack_adapters,
    write_updates,
)
from moored.huggingface.models.adapters import refuse_lm_head, save_adapter_like
from moored.huggingface.models.base_direction import BaseDirection, MatrixDirection, find_base_direction
from moored.huggingface.models.checkpoint import checkpoint_folder
from moored.huggingface.models.device import best_device, bf16_is_native
from moored.huggingface.models.kept_tensors import (
    dtypes_as_stored,
    refuse_quantized,
    require_complete,
    require_same_tensors,
    require_writable,
    write_back,
)
from moored.huggingface.models.load import load_model
from moored.huggingface.models.merged_adapter import (
    folded_adapter,
    make_whole,
    refuse_partial,
    remember_folded,
    unstackable,
)
from moored.huggingface.models.merged_weights import FoldedWeights, difference
from moored.huggingface.models.model_weights import ModelWeights
from moored.huggingface.models.names import plain_name
from moored.huggingface.models.parameter_location import Place, is_stack, place_of, places, refuse_stacked
from moored.huggingface.models.quantized import is_code
from moored.huggingface.models.skeleton import context_length, transposed_weights
from moored.huggingface.models.source import ModelSource
from moored.huggingface.models.source_checks import refuse_beyond, require_fit, require_tokens
from moored.huggingface.models.stored_files import refuse_gguf, weight_files
from moored.huggingface.models.tokenizer import load_tokenizer, require_chat_template
from moored.huggingface.models.weights import (
    StoredWeights,
    copy_companions,
    disk_errors,
    iterate_weights,
    refuse_non_finite,
    refuse_wrapped,
    require_finite,
    rewrite_weights,
    stored_dtypes,
)
from moored.huggingface.models.wrappers import unwrapped, without_adapter

__all__ = [
    "BaseDirection",
    "FoldedWeights",
    "MatrixDirection",
    "ModelSource",
    "ModelWeights",
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
    "is_code",
    "is_stack",
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
    "refuse_gguf",
    "refuse_lm_head",
    "refuse_non_finite",
    "refuse_partial",
    "refuse_quantized",
    "refuse_stacked",
    "refuse_wrapped",
    "remember_folded",
    "require_chat_template",
    "require_complete",
    "require_finite",
    "require_fit",
    "require_same_tensors",
    "require_tokens",
    "require_writable",
    "rewrite_weights",
    "save_adapter_like",
    "stack_adapters",
    "stored_dtypes",
    "transposed_weights",
    "unstackable",
    "unwrapped",
    "weight_files",
    "without_adapter",
    "write_back",
    "write_updates",
]
