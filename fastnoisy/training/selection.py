"""The one exception to the last-epoch rule: a run that reports the epoch which is best on a clean or held-out list.

Clothing1M's published numbers are of models chosen on its clean validation list, so `select=val` does the same. The chosen
epoch's weights lie in `checkpoints/best`, written right after the checkpoint of that epoch: whatever is interrupted between
the two is made good from that checkpoint, and one that belongs to a discarded future is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnoisy.errors import FastnoisyError
from fastnoisy.training import checkpoint
from fastnoisy.training.checkpoint import Checkpoint, Position


@dataclass
class Selection:
    """The best epoch so far. `name` is the evaluation set that decides, empty where the last epoch is reported.

    `epoch` is 0-based, -1 before the first evaluation; of equal accuracies the earlier epoch stays.
    """

    name: str
    epoch: int = -1
    accuracy: float = -1.0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, chosen by its {self.accuracy:.2%} on {self.name} (not the last epoch)"

    def observe(self, epoch: int, evaluated: dict[str, Any]) -> bool:
        """Whether an epoch's evaluation (set -> predictor -> numbers, the reported predictor first) is the best so far."""
        if not self.name:
            return False
        accuracy = next(iter(evaluated[self.name].values()))["accuracy"]
        if accuracy <= self.accuracy:
            return False
        self.epoch, self.accuracy = epoch, accuracy
        return True

    def state(self) -> dict[str, Any]:
        """For a checkpoint, and for metrics.jsonl."""
        return {"by": self.name, "epoch": self.epoch, "accuracy": self.accuracy}

    def restore(self, found: Checkpoint, write: Callable[[Position], object], say: Callable[[str], None]) -> None:
        """Continue from a checkpoint.

        Args:
            write: writes `checkpoints/best` from the state just restored, which stands after that epoch.
        """
        if not self.name:
            return
        kept = found.state.get("selection") or {}
        self.epoch, self.accuracy = kept.get("epoch", -1), kept.get("accuracy", -1.0)
        if self.epoch < 0:
            return
        on_disk = best_epoch(found.path.parent)
        if on_disk == self.epoch:
            return
        if found.position == Position(self.epoch + 1):
            write(found.position)
            return
        self.epoch, self.accuracy = -1, -1.0
        say(
            f"the model chosen so far is not of this state: the best of the epochs from {found.position.epoch} on is taken"
        )


def best_epoch(folder: Path) -> int | None:
    """The 0-based epoch whose weights `best` holds; None where there is none that is whole."""
    try:
        return checkpoint.load(folder / checkpoint.BEST).position.epoch - 1
    except FastnoisyError:
        return None
