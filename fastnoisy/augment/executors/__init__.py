"""Who executes a view: one meaning, the steps' draws and Pillow's pixels, by different means, to the same bit.

`reference` is batched torch and kornia on any device; `cpu` is numba, one image after another; `cuda` is one fused
Triton kernel. A program with a step or an operation that an executor does not have is the reference's to execute, and
the view's `note` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch

from fastnoisy.augment.executors.cpu.sources import is_kept
from fastnoisy.augment.executors.programs import UnsupportedError
from fastnoisy.augment.executors.reference import ReferenceView

if TYPE_CHECKING:
    from fastnoisy.augment.program import ViewProgram
    from fastnoisy.augment.registry import Step
    from fastnoisy.augment.views import View

NAMES = ("reference", "cpu", "cuda")


def make(
    executor: str, program: ViewProgram, name: str, steps: list[Step], dtype: torch.dtype, channels_last: bool
) -> View:
    """A view by one of `NAMES`; the other arguments are those of `ReferenceView`."""
    if executor == "reference":
        return ReferenceView(program, name, steps, dtype, channels_last)
    tool = "numba" if executor == "cpu" else "triton"
    try:
        return _kind(executor)(program, name, steps, dtype, channels_last)
    except UnsupportedError as missing:
        why = f"the {executor} executor does not have {missing}"
    except (ImportError, OSError) as error:  # numba refuses the numpy that is there, or finds no memory for its library
        why = f"{tool} cannot be imported: {str(error).partition(chr(10))[0]}"
    view = ReferenceView(program, name, steps, dtype, channels_last)
    view.note = f"note: the view {name!r} is made by the reference executor: {why}"
    return view


def _kind(executor: str) -> type[ReferenceView]:
    """The class of an executor's views; what it is made with takes half a second to import."""
    if executor == "cpu":
        from fastnoisy.augment.executors.cpu.view import CpuView

        return CpuView
    from fastnoisy.augment.executors.cuda.view import CudaView

    return CudaView


def automatic(device: torch.device) -> str:
    """Who makes the views of a run on a device."""
    if device.type == "cuda" and torch.version.hip is None:
        return "cuda"
    return "cpu" if device.type == "cpu" else "reference"


def at_hand(device: torch.device) -> str:
    """Who makes the views of a short piece of work on a device: the CPU's executor only where it lies compiled."""
    return "reference" if device.type == "cpu" and not is_kept() else automatic(device)


def prepare(views: Iterable[View], say: Callable[[str], object]) -> list[str]:
    """Compile what the views need, before it is timed; `say` is told a line before it takes long.

    Returns:
        The views' notes.
    """
    made = list(views)
    if compiled := [view for view in made if view.executor == "cpu"]:
        from fastnoisy.augment.executors.cpu.view import compile_kernels

        compile_kernels(compiled, say)
    return list(dict.fromkeys(view.note for view in made if view.note))
