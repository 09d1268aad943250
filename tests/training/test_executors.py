"""Whole runs by every executor of views: the same weights; changed when a run goes on; refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastnoisy.errors import FastnoisyError
from fastnoisy.training import loop, setup
from fastnoisy.training.logs import Event
from fastnoisy.training.run import Run

WORDS = ["noise=symmetric:0.4", "threads=1", "device=cpu", "data.subset=200", "batch_size=50"]


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = Run(out).checkpoint.path.glob("model.safetensors")
    return load_file(file)


def trained(digits: Path, out: Path, *words: str) -> list[str]:
    said: list[Event] = []
    loop.start(setup.resolve("digits-nrd", [*WORDS, *words], str(digits)), out, said.append)
    return [str(event) for event in said]


def test_every_executor_trains_the_same_network(digits: Path, tmp_path: Path) -> None:
    lines = trained(digits, tmp_path / "auto", "epochs=2")
    assert any(line.endswith("views by cpu") for line in lines)
    lines = trained(digits, tmp_path / "reference", "epochs=2", "views.executor=reference")
    assert any(line.endswith("views by reference") for line in lines)
    first, second = weights(tmp_path / "auto"), weights(tmp_path / "reference")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_may_change_when_a_run_goes_on(digits: Path, tmp_path: Path) -> None:
    for first, second in (("cpu", "reference"), ("reference", "cpu")):
        trained(digits, tmp_path / second, "epochs=1", f"views.executor={first}")
        loop.resume(tmp_path / second, ["epochs=2", f"views.executor={second}"])
        assert Run(tmp_path / second).config.views.executor == second
    one, other = weights(tmp_path / "cpu"), weights(tmp_path / "reference")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_that_of_another_device_is_refused(digits: Path) -> None:
    def chosen(device: str, *words: str) -> str:
        return setup.view_executor(setup.resolve("digits-nrd", words, str(digits)).config, torch.device(device))

    assert chosen("cpu", "views.executor=cpu") == chosen("cpu") == "cpu"
    assert chosen("cuda", "views.executor=cuda") == chosen("cuda") == "cuda"
    assert chosen("cuda", "views.executor=reference") == chosen("cpu", "views.executor=reference") == "reference"
    with pytest.raises(FastnoisyError, match=r"views.executor=cpu on device cuda.*on a CPU: set views.executor=auto"):
        chosen("cuda", "views.executor=cpu")
    with pytest.raises(FastnoisyError, match=r"views.executor=cuda on device cpu.*NVIDIA GPU: set views.executor=auto"):
        chosen("cpu", "views.executor=cuda")


def test_another_word_is_refused(digits: Path) -> None:
    with pytest.raises(FastnoisyError, match=r"views.executor: Input should be 'auto', 'reference', 'cpu' or 'cuda'"):
        setup.resolve("digits-nrd", ["views.executor=gpu"], str(digits))
