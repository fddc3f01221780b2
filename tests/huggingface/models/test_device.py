import pytest
import torch

from moored.huggingface.models import bf16_is_native


@pytest.mark.parametrize("has_kernels", [True, False])
def test_bf16_is_native_where_the_processor_has_kernels_for_it(monkeypatch, has_kernels):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_kernels, raising=False)
    assert bf16_is_native() is has_kernels
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert bf16_is_native() is False
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert bf16_is_native() is True
