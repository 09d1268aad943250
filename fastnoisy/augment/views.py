"""Views: programs of steps, as `randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)`.

A program is parsed as literals and never evaluated. Built, it is a module that turns a uint8 batch into what a network
trains on. Between steps images are uint8, as with Pillow; floats appear first in `normalize`. What happens to a sample
is a pure function of (key of seed and epoch, sample index, name of the view): the same in any batch, on any device,
eager or compiled. This is the reference executor: batched torch and kornia, nothing fused by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastnoisy import literals
from fastnoisy.augment.registry import REQUIRED, Step, StepType
from fastnoisy.augment.rows import blank_outside, drop_full_sizes
from fastnoisy.augment.steps import get_step
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.keyed_random import fold, name_value

_EXAMPLE = "Write steps joined by |, for example: random_crop(32, padding=4) | hflip | normalize"


@dataclass(frozen=True)
class StepCall:
    """One step of a program: its name and all its arguments, defaults included, in the order of its signature."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def kind(self) -> StepType:
        """What the step is."""
        return get_step(self.name)

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments by name."""
        return {parameter.name: value for parameter, value in zip(self.kind.parameters, self.arguments, strict=True)}

    def __str__(self) -> str:
        required = [parameter for parameter in self.kind.parameters if parameter.default is REQUIRED]
        shown = [
            f"{value!r}" if required == [parameter] else f"{parameter.name}={value!r}"
            for parameter, value in zip(self.kind.parameters, self.arguments, strict=True)
            if parameter.default is REQUIRED or value != parameter.default
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


@dataclass(frozen=True)
class ViewProgram:
    """A parsed program. `str(program)` is its canonical text, which parses to an equal program."""

    steps: tuple[StepCall, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.steps))

    def output_size(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what comes out for images on a canvas (height, width)."""
        for call in self.steps:
            if "size" in call.keywords:
                canvas = (call.kind.sides * call.keywords["size"],) * 2
        return canvas

    def build(
        self,
        name: str,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
    ) -> View:
        """Make the module.

        Args:
            name: the view's name; views of different names draw different numbers for the same sample.
            mean, std: per channel, of pixels in 0..1; used where `normalize` does not give its own.
            channels_last: memory order of the result.

        Raises:
            FastnoisyError: the program has no `normalize`, or nobody gave a mean and a standard deviation, or they are
                not three numbers each (of pixels in 0..1).
        """
        if all(call.kind.stage != "normalize" for call in self.steps):
            raise FastnoisyError(f"the view {name!r}, {self}, has no normalize", "Add it after the uint8 steps.")
        steps = []
        for call in self.steps:
            keywords = call.keywords
            if call.kind.stage == "normalize":
                for parameter, default in zip(call.kind.parameters, (mean, std), strict=True):
                    if keywords[parameter.name] is not None:
                        continue
                    if default is None:
                        remedy = f"Give {parameter.name} to build, or to normalize in the program."
                        raise FastnoisyError(f"the view {name!r} has no {parameter.name} to normalize by", remedy)
                    keywords[parameter.name] = tuple(map(float, default))
                    if problem := parameter.problem(keywords[parameter.name]):
                        raise FastnoisyError(f"the view {name!r}: {problem}")
            steps.append(call.kind.factory(**keywords))
        return View(self, name, steps, channels_last)


class View(nn.Module):
    """A built program. Made by `ViewProgram.build`; holds no learned state and nothing in its `state_dict`."""

    def __init__(self, program: ViewProgram, name: str, steps: list[Step], channels_last: bool) -> None:
        super().__init__()
        self.program, self.name, self.channels_last = program, name, channels_last
        self.steps = nn.ModuleList(steps)
        self._name_value = name_value(name)
        self._first_float = [call.kind.stage for call in program.steps].index("normalize")

    def extra_repr(self) -> str:
        """The name and the program, for `print`."""
        return f"{self.name!r}: {self.program}"

    def _prepare(
        self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """The images, blank outside their valid areas, the sizes, and the samples' keys for each step."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise FastnoisyError(f"a view takes uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        if isinstance(key, int):  # made on the device: a copy from the host would synchronise
            key = torch.full((), key, dtype=torch.int64, device=images.device)
        keys = fold(fold(key, indices), self._name_value)
        sizes = drop_full_sizes(images, sizes)
        images = blank_outside(images.contiguous(), sizes)
        steps = enumerate(self.steps)
        return images, sizes, [fold(keys, position) if step.draws else keys for position, step in steps]

    def _run(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor, stop: int) -> Tensor:
        images, sizes, keys = self._prepare(images, sizes, indices, key)
        for step, step_keys in zip(self.steps[:stop], keys[:stop], strict=True):
            images, sizes = step(images, sizes, step_keys)
        return images

    @torch.no_grad()
    def describe(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> list[list[str]]:
        """What the view does to each image: for each sample the words of each step, "" where a step does nothing to it.

        Arguments as for calling the view, whose very draws it tells. Reads values, so a GPU is waited for.
        `normalize` says nothing.
        """
        images, sizes, keys = self._prepare(images, sizes, indices, key)
        columns: list[list[str]] = []
        step: Any
        for step, step_keys in zip(self.steps, keys, strict=True):
            columns.append(step.describe(images, sizes, step_keys))
            images, sizes = step(images, sizes, step_keys)
        return [list(row) for row in zip(*columns, strict=True)]

    def uint8(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """The images just before `normalize`, uint8; arguments as for calling the view."""
        return self._run(images, sizes, indices, key, self._first_float)

    def forward(self, images: Tensor, sizes: Tensor | None, indices: Tensor, key: int | Tensor) -> Tensor:
        """Make the view.

        Args:
            images: uint8 (B, 3, H, W), in any memory order.
            sizes: valid (height, width), integer (B, 2), or None for the whole canvas.
            indices: int64 (B,), the samples' rows in the data set.
            key: `keyed_random.key(seed, epoch)`, an integer or a 0-dimensional int64 tensor (which a compiled view
                should get, lest it recompile).

        Returns:
            float32 (B, 3, h, w), (h, w) being `program.output_size((H, W))`.
        """
        images = self._run(images, sizes, indices, key, len(self.steps))
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images


def _literal(value: Any, kind: StepType) -> Any:
    if isinstance(value, (literals.Word, literals.Call)):
        source = value.source if isinstance(value, literals.Call) else str(value)
        raise FastnoisyError(
            f"{kind.name}: the argument {source!r} is not a literal", f"Allowed: {kind.signature} with plain values."
        )
    return tuple(value) if isinstance(value, list) else value


def _parse_step(call: literals.Call) -> StepCall:
    kind = get_step(call.name)
    names = [parameter.name for parameter in kind.parameters]
    allowed = f"Allowed: {kind.signature}."
    if len(call.args) > len(names):
        raise FastnoisyError(f"{call.source!r}: too many arguments", allowed)
    given = dict(zip(names, call.args, strict=False))
    for key, value in call.keywords:
        if key not in names:
            problem = unknown_name(f"argument of {kind.name}", key, names)
            raise FastnoisyError(f"{call.source!r}: {problem.message}", allowed)
        if key in given:
            raise FastnoisyError(f"{call.source!r}: {key} is given twice", allowed)
        given[key] = value
    arguments = []
    for parameter in kind.parameters:
        if parameter.name in given:
            value = _literal(given[parameter.name], kind)
            if problem_text := parameter.problem(value):
                raise FastnoisyError(f"{call.source!r}: {problem_text}", allowed)
        elif parameter.default is REQUIRED:
            raise FastnoisyError(f"{call.source!r}: {parameter.name} is missing", allowed)
        else:
            value = parameter.default
        arguments.append(value)
    return StepCall(kind.name, tuple(arguments))


def parse_view(text: str) -> ViewProgram:
    """Parse a program; line breaks in it are spaces.

    Raises:
        FastnoisyError: not a program, an unknown step or argument (with near misses), an argument of the wrong type or
            out of its bounds, or steps in an impossible order; the message quotes the step and says what is allowed.
    """
    text = " ".join(text.split())
    try:
        found = literals.parse_chain(text)
    except FastnoisyError as error:
        raise FastnoisyError(f"{error.message}: it is not a view", _EXAMPLE) from None
    calls = [_parse_step(call) for call in found]
    seen = ""
    for call in calls:
        stage = call.kind.stage
        if stage == "normalize" and seen:
            raise FastnoisyError(f"{text!r}: normalize may stand only once", "Remove one of them.")
        if stage == "float" and not seen:
            raise FastnoisyError(f"{text!r}: {call} works on normalized images", f"Put {call} after normalize.")
        if stage == "uint8" and seen:
            raise FastnoisyError(f"{text!r}: {call} works on uint8 images", f"Put {call} before normalize.")
        seen = seen or ("normalize" if stage == "normalize" else "")
    return ViewProgram(tuple(calls))
