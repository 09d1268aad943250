"""View programs, as `randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)`.

A program is parsed as literals and never evaluated. Built, it is a `View`: a module that turns a uint8 batch into what
a network trains on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastnoisy import literals
from fastnoisy.augment import executors
from fastnoisy.augment.registry import REQUIRED, StepType
from fastnoisy.augment.steps import get_step
from fastnoisy.augment.views import View
from fastnoisy.errors import FastnoisyError, unknown_name

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
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        executor: str = "reference",
    ) -> View:
        """Make the module.

        Args:
            name: the view's name; views of different names draw different numbers for the same sample.
            mean, std: per channel, of pixels in 0..1; used where `normalize` does not give its own.
            dtype: of the result, a floating type: the float32 result rounded once.
            channels_last: memory order of the result.
            executor: who makes it, one of `executors.NAMES`; the pixels are the same.

        Raises:
            FastnoisyError: an unknown executor, the program has no `normalize`, or nobody gave a mean and a standard
                deviation, or they are not three numbers each (of pixels in 0..1).
        """
        if executor not in executors.NAMES:
            raise unknown_name("executor of views", executor, executors.NAMES)
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
            steps.append(call.kind.build(**keywords))
        return executors.make(executor, self, name, steps, dtype, channels_last)


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
