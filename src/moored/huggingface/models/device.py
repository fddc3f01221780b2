"""The device that models run on, and the precision that is fast there."""

import torch


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def bf16_is_native() -> bool:
    """Tells whether bf16 is at least as fast as fp32 here: on an accelerator, and on a CPU that oneDNN has kernels for.

    Where it has none (AVX2, say), PyTorch multiplies in bf16 by plain loops, several times slower than in fp32.
    """
    if torch.accelerator.is_available():
        return True
    # PyTorch's own compiler asks this way; there is no public name.
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
