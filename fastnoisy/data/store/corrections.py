"""What a label file makes of the splits of a store: the one way in which training, evaluation and `correct` read it."""

from __future__ import annotations

from pathlib import Path

from fastnoisy.data.store.folder import Store
from fastnoisy.label_files.corrections import Corrected, Options, Rows, correct


def read_corrections(
    path: str, store: Store, labels_as: str = "", columns: str = ""
) -> tuple[dict[str, Corrected], str]:
    """What a label file makes of the splits of a store that it names, and the line that counts it.

    Raises:
        FastnoisyError: it cannot be read, or is not meant for this store.
    """
    rows = {name: Rows(split.given_labels, split.sources) for name, split in store.splits.items()}
    source = next(iter(store.splits.values())).source
    return correct(Path(path), rows, store.class_names, source, Options(labels_as, columns))
