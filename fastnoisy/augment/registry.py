"""What a view's step is: its parameters and how they are checked, its base class, and the decorator that registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

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

    @property
    def signature(self) -> str:
        """As a user would write it, for example `random_crop(size, padding=0)`."""
        shown = [p.name if p.default is REQUIRED else f"{p.name}={p.default!r}" for p in self.parameters]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


class Step(nn.Module):
    """Base of all steps."""

    draws = False  # whether it uses its keys; the others get the sample's keys as they are

    def describe(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[str]:
        """What the step does to each image, in a few words; "" for nothing. Arguments as for calling it.

        It tells what `forward` does with the same keys, by the same draws. Reads values, so a GPU is waited for.
        """
        return [""] * len(images)


STEPS: dict[str, StepType] = {}


def step(name: str, *parameters: Parameter, stage: str = "uint8", sides: int = 1) -> Callable[[type[Step]], type[Step]]:
    """Register a class as the step `name`; its `__init__` takes the parameters by keyword, already checked."""

    def register(cls: type[Step]) -> type[Step]:
        doc = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
        STEPS[name] = StepType(name, doc, parameters, stage, cls, sides)
        return cls

    return register
