"""The one exception to the last-epoch rule: a run that reports the epoch which is best on a clean or held-out list.

Clothing1M's published numbers are of models chosen on its clean validation list, so `select=val` does the same. The
chosen epoch's weights lie in `checkpoints/best`, written right after the checkpoint of that epoch: whatever is
interrupted between the two is made good from that checkpoint, and one that belongs to a discarded future is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], None]


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
        """Whether an epoch's evaluation (set -> predictor -> numbers, the reported predictor first) is the best so
        far.
        """
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

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()`; a run that now selects where it did not before has chosen none yet."""
        if self.name:
            self.epoch, self.accuracy = state.get("epoch", -1), state.get("accuracy", -1.0)

    def reconcile(self, on_disk: int | None, next_epoch: int, write: Callable[[], object], say: Say) -> None:
        """After `load`: see that `checkpoints/best` holds the chosen epoch's weights, or forget the choice.

        Args:
            on_disk: the 0-based epoch whose weights `best` holds; None where there is none that is whole.
            next_epoch: of the state gone on from, which stands right after the epoch before.
            write: writes `best` from that state.
        """
        if self.epoch < 0 or on_disk == self.epoch:
            return
        if next_epoch == self.epoch + 1:
            write()
            return
        self.epoch, self.accuracy = -1, -1.0
        say(f"the model chosen so far is not of this state: the best of the epochs from {next_epoch} on is taken")
