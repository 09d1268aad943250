"""What a method around another method shares with it: all but what it adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fastnoisy import methods
from fastnoisy.config import call_table
from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.methods.base import Context, Method, Pass, Progress, Record, StepBatch, Stream, TrainingSet
from fastnoisy.models.heads import Network, Outputs


class Wrapper(Method):
    """A method that wraps a `base`: everything is the base's until a subclass says otherwise.

    The subclass's options have a field `base`, the wrapped method's name or table; it builds the base, with
    `context.with_heads` where it needs sub-classifiers, and reads nothing of its steps but their records.
    """

    def __init__(self, context: Context, options: Any, base: Method) -> None:
        super().__init__(context, options)
        del self.networks  # the base's, below
        self.base = base
        self.streams: Mapping[str, Stream] = base.streams
        self.passes: tuple[Pass, ...] = base.passes
        self.unsupported = dict(base.unsupported)
        self.semi_supervised = base.semi_supervised

    @property
    def networks(self) -> nn.ModuleList:  # type: ignore[override]
        """The base's."""
        return self.base.networks

    @classmethod
    def option_problems(cls, options: Any) -> list[str]:
        """Problems of the wrapped method's name and of its own options, one line each."""
        try:
            table = call_table(options.base)
        except FastnoisyError as error:
            return [f"method.base: {error}"]
        own = cls.__module__.rpartition(".")[2].replace("_", "-")
        if table["name"] == own:
            return [f"method.base: {own} cannot wrap itself"]
        bases = [name for name in methods.names() if name != own]
        if table["name"] not in bases:
            return [f"method.base: {unknown_name('method', table['name'], bases)}"]
        return [f"method.base: {problem}" for problem in methods.problems(table)]

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """The base's."""
        return self.base.step(batches, progress)

    def plan(self, epoch: int) -> tuple[Pass, ...]:
        """The base's."""
        return self.base.plan(epoch)

    def before_epoch(self, epoch: int, training: TrainingSet) -> dict[str, Tensor]:
        """The base's."""
        return self.base.before_epoch(epoch, training)

    def before_pass(self, name: str) -> None:
        """The base's."""
        self.base.before_pass(name)

    def after_backward(self, progress: Progress) -> None:
        """The base's."""
        self.base.after_backward(progress)

    def after_step(self, progress: Progress, sound: Tensor) -> None:
        """The base's."""
        self.base.after_step(progress, sound)

    def predictors(self, outputs: Sequence[Outputs], images: Tensor) -> dict[str, Tensor]:
        """The base's."""
        return self.base.predictors(outputs, images)

    def primary_network(self) -> Network:
        """The base's."""
        return self.base.primary_network()

    def clean_probability(self, training: TrainingSet) -> Tensor:
        """The base's."""
        return self.base.clean_probability(training)
