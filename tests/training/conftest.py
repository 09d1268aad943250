"""A converted digits store, and how a run is started in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fastnoisy.data.conversion.convert import ConvertOptions, convert


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "digits"
    convert("digits", out, options=ConvertOptions(), progress=None)
    return out


def _fake(tensor: Tensor) -> Tensor:
    form = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda", memory_format=form)


def _move(module: nn.Module) -> None:
    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[key] = nn.Parameter(_fake(parameter), requires_grad=parameter.requires_grad)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = _fake(buffer)


@pytest.fixture(scope="session")
def move() -> Callable[[nn.Module], None]:
    """Puts parameters and buffers on the fake device, in place: `Module.to` would read the real ones."""
    return _move


@pytest.fixture
def _half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast and the gradient's scaler switch themselves off where there is no GPU."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
