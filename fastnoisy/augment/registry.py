"""What a view's step is: its parameters and their checks, its base class, and the decorator that registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastnoisy.keyed_random import fold_premixed, premix

REQUIRED = object()
Result = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Parameter:
    """An argument of a step: its name, kind, default, bounds (of each number in it) or choices."""

    name: str
    kind: (
        str  # integer, number, switch, range (two numbers), colour (three integers), channels (three numbers, or None)
    )
    default: Any = REQUIRED
    low: float = -1e9
    high: float = 1e9
    choices: tuple[Any, ...] = ()
    note: str = ""

    def problem(self, value: Any) -> str:
        """What `value` should have been, or nothing if it is fine."""

        def number(item: Any, types: tuple[type, ...] = (int, float)) -> bool:
            return type(item) in types and self.low <= item <= self.high

        bounds = f" from {self.low:g}" * (self.low > -1e9) + f" to {self.high:g}" * (self.high < 1e9)
        if self.choices:
            fine = number(value, (int,) if self.kind == "integer" else (int, float)) and value in self.choices
            wanted = f"{'one of ' * (len(self.choices) > 1)}{', '.join(map(repr, self.choices))}"
        elif self.kind == "integer":
            fine, wanted = number(value, (int,)), "an integer" + bounds
        elif self.kind == "number":
            fine, wanted = number(value), "a number" + bounds
        elif self.kind == "switch":
            fine, wanted = isinstance(value, bool), "True or False"
        elif self.kind == "range":
            fine = isinstance(value, tuple) and len(value) == 2 and all(map(number, value))
            fine, wanted = fine and value[0] <= value[1], f"two numbers{bounds}, the smaller first"
        elif self.kind == "colour":
            fine = isinstance(value, tuple) and len(value) == 3 and all(number(item, (int,)) for item in value)
            wanted = f"three integers{bounds}, red, green and blue"
        else:
            fine = value is None or (isinstance(value, tuple) and len(value) == 3 and all(map(number, value)))
            wanted = f"three numbers{bounds}, one per channel"
        return "" if fine else f"{self.name} must be {wanted}{self.note and f' ({self.note})'}, got {value!r}"


@dataclass(frozen=True)
class StepType:
    """A registered step. `stage` is "uint8", "normalize" or "float"; `sides` the canvas's side after it, in `size`s."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    stage: str
    factory: Callable[..., Step]
    sides: int = 1

    def build(self, **arguments: Any) -> Step:
        """Make the step; arguments that are not given have their defaults."""
        defaults = {p.name: p.default for p in self.parameters if p.default is not REQUIRED}
        return self.factory(**{**defaults, **arguments})

    @property
    def signature(self) -> str:
        """As a user would write it, for example `random_crop(size, padding=0)`."""
        shown = [p.name if p.default is REQUIRED else f"{p.name}={p.default!r}" for p in self.parameters]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


class Step(nn.Module):
    """Base of all steps: `draw` decides, `apply` makes pixels, `words` says what was decided.

    `draw` is what a step means: integers (and entries of float64 tables made on the host) from keys and shapes, never
    from pixels. Another executor has to draw the same integers and make the same pixels of them. Calling the step is
    `apply(draw)`, `describe` is `words(draw)`.

    Draws are a NamedTuple of tensors whose first dimension is the batch's, so that cutting the rows of keys and sizes
    cuts the rows of the draws; a step that draws nothing returns `()`. Draw number d of a key is `fold(key, d)`.

    Args:
        draws: how many numbers `numbers` can give per key.
    """

    _premixed: Tensor

    def __init__(self, draws: int = 0) -> None:
        super().__init__()
        self.register_buffer("_premixed", torch.tensor([premix(d) for d in range(draws)]).long(), persistent=False)

    def numbers(self, keys: Tensor, count: int | None = None) -> Tensor:
        """The first `count` draws of each key (all that there are if None), int64 (*keys.shape, count), in one fold."""
        return fold_premixed(keys[..., None], self._premixed if count is None else self._premixed[:count])

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Any:
        """Decide for each sample.

        Args:
            keys: int64 (B,), the samples' own keys for this step.
            sizes: valid (height, width), integer (B, 2), or None for the whole canvas.
            canvas: its height and width.
        """
        return ()

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """Make the pixels. (`nn.Module.apply` has no use here: a step has no submodules.)

        Args:
            images: (B, 3, H, W), uint8 up to `normalize`, float32 after it; 0 outside the valid areas.
            sizes: as for `draw`.
            draws: what `draw` returned.

        Returns:
            The new images, and their valid areas or None.
        """
        raise NotImplementedError

    def words(self, draws: Any) -> list[str]:
        """The draws in a few words, for each sample; "" for nothing. One text for all where nothing is drawn.

        Reads values, so a GPU is waited for.
        """
        return [""]

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Result:
        """Draw and apply."""
        height, width = images.shape[2:]
        return self.apply(images, sizes, self.draw(keys, sizes, (height, width)))

    def describe(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[str]:
        """What calling the step with the same arguments does to each image; of the images only the shape matters."""
        height, width = images.shape[2:]
        draws = self.draw(keys, sizes, (height, width))
        return self.words(draws) * (1 if len(draws) else len(images))


STEPS: dict[str, StepType] = {}


def step(name: str, *parameters: Parameter, stage: str = "uint8", sides: int = 1) -> Callable[[type[Step]], type[Step]]:
    """Register a class as the step `name`; its `__init__` takes the parameters by keyword, already checked."""

    def register(cls: type[Step]) -> type[Step]:
        doc = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        STEPS[name] = StepType(name, doc, parameters, stage, cls, sides)
        return cls

    return register
