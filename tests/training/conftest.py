"""A converted digits store, and how a run is started in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


class Pool:
    """Three processes that wait for runs to be ranks of; see ranks.py."""

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).with_name("ranks.py")
        self.folder, self.meetings = folder, 0
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(script), str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for rank in range(3)
        ]

    def __call__(self, size: int, **task: Any) -> list[dict[str, Any]]:
        """What each of so many ranks answers."""
        self.meetings += 1
        line = json.dumps({**task, "size": size, "meeting": str(self.folder / f"{self.meetings}")}, default=str)
        for process in self.processes[:size]:
            assert process.stdin is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for process in self.processes[:size]]  # type: ignore[union-attr]
        for answer in answers:
            assert "error" not in answer, answer["trace"]
        return answers

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(timeout=60)
            process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(tmp_path_factory.mktemp("meetings"))
    yield pool
    pool.close()
