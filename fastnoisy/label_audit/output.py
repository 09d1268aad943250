"""What an audit writes: issues.csv, suggestions.csv, probabilities.npz, summary.json."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnoisy import __version__
from fastnoisy.confident_learning import ClassRow, by_class
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.label_audit.converted import LEFT, STORE, is_own
from fastnoisy.label_files.corrections import DROP, drops_by_word

if TYPE_CHECKING:
    from fastnoisy.label_audit.audit import Audit

FORMAT = "fastnoisy-audit-1"
_FACTS = ("index", "path", "split", "given_label", "predicted_label", "label_score", "is_label_issue")
COLUMNS = (*_FACTS, "duplicate_group", "duplicate_kind", "oddity")
_SUMMARY = "summary.json"


def check_free(folder: Path) -> None:
    """Whether an audit may write there: a folder that is new, empty, or an earlier audit's.

    Raises:
        FastnoisyError: it is something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FastnoisyError(f"{folder} is a file, not a folder", "name a folder with --out")
    if any(folder.iterdir()) and not (folder / _SUMMARY).is_file() and not _begun(folder):
        raise FastnoisyError(
            f"{folder} is not empty and holds no earlier audit", "remove it, or name another folder with --out"
        )


def _begun(folder: Path) -> bool:
    """Whether all that is there is what an audit that was stopped leaves."""
    return all(
        is_own(path) if path.name == STORE else path.name in (*LEFT, "folds") or path.name.startswith(".partial-")
        for path in folder.iterdir()
    )


def write(audit: Audit) -> None:
    """Write all files, each under a temporary name and renamed; summary.json last."""
    audit.out.mkdir(parents=True, exist_ok=True)
    _write_issues(audit, audit.out / "issues.csv")
    _write_suggestions(audit, audit.out / "suggestions.csv")
    _write_probabilities(audit, audit.out / "probabilities.npz")
    with replacing(audit.out / _SUMMARY) as partial:
        partial.write_text(json.dumps(summary(audit), indent=1, ensure_ascii=True) + "\n")


def _write_issues(audit: Audit, path: Path) -> None:
    groups = {i: (n, group.kind) for n, group in reversed([*enumerate(audit.groups, 1)]) for i in group.members}
    odd = dict(audit.oddities)
    with _table(path) as writer:
        writer.writerow(COLUMNS)
        for i in audit.order.tolist():
            writer.writerow([*_facts(audit, i), *groups.get(i, ("", "")), odd.get(i, "")])


def _write_suggestions(audit: Audit, path: Path) -> None:
    """The flagged rows of the training split with the labels, or the word drop, that they would have by the audit."""
    names, suggested, sure, wanted = audit.images.class_names, audit.suggested, audit.sure, audit.correctable
    apart = not drops_by_word(names)
    with _table(path) as writer:
        writer.writerow([*_FACTS, "label", *([DROP] if apart else [])])
        for i in (i for i in audit.order.tolist() if wanted[i]):
            label = names[suggested[i]] if sure[i] else "" if apart else DROP
            writer.writerow([*_facts(audit, i), label, *([not sure[i]] if apart else [])])


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """Writes rows of a CSV file, under a temporary name that is renamed."""
    with (
        replacing(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield csv.writer(file)


def _facts(audit: Audit, i: int) -> list[object]:
    """The cells of an image below `_FACTS`."""
    images, names = audit.images, audit.images.class_names
    return [
        images.index[i], images.paths[i], images.split_names[images.split[i]], names[images.given[i]],
        names[audit.suggested[i]], f"{audit.score[i]:.6f}", bool(audit.flags.flagged[i]),
    ]  # fmt: skip


def _write_probabilities(audit: Audit, path: Path) -> None:
    """`labels` and `pred_probs` as cleanlab's functions call them."""
    images = audit.images
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            labels=images.given,
            pred_probs=audit.judgement.probabilities,
            split=np.array(images.split_names)[images.split],
            index=images.index,
            path=np.array([path.encode("utf-8", "surrogateescape") for path in images.paths]),
            class_names=np.array(images.class_names),
        )


def classes(audit: Audit) -> list[ClassRow]:
    """A row per class."""
    return by_class(audit.flags, audit.images.given, audit.suggested, audit.images.class_names)


def copies(audit: Audit) -> dict[str, dict[str, int]]:
    """Of each kind of duplicates how many `groups` there are, how many have several given labels (`several_labels`),
    and how many lie in several splits (`several_splits`).
    """
    images = audit.images
    found: dict[str, dict[str, int]] = {}
    for group in audit.groups:
        members = list(group.members)
        counts = found.setdefault(group.kind, {"groups": 0, "several_labels": 0, "several_splits": 0})
        counts["groups"] += 1
        counts["several_labels"] += len(np.unique(images.given[members])) > 1
        counts["several_splits"] += len(np.unique(images.split[members])) > 1
    return found


def summary(audit: Audit) -> dict[str, Any]:
    """What summary.json holds."""
    flags = audit.flags
    return {
        "format": FORMAT,
        "fastnoisy": __version__,
        "store": str(audit.store),
        "images": len(audit.images.paths),
        "judged": int(audit.judged.sum()),
        "estimated_wrong": flags.count,
        "estimated_rate": flags.rate,
        "flagged": int(flags.flagged.sum()),
        "duplicates": copies(audit),
        "oddities": dict(Counter(kind for _, kind in audit.oddities)),
        "features": audit.network,
        "weights_sha256": audit.digest,
        "judged_by": audit.judgement.how,
        "seconds": {part: round(value, 2) for part, value in audit.seconds.items()},
        "classes": [
            {
                "class": row.name,
                "images": row.images,
                "estimated_wrong": round(row.wrong, 1),
                "estimated_elsewhere": round(row.elsewhere, 1),
                "flagged": row.flagged,
                "mostly": row.mostly,
            }
            for row in classes(audit)
        ],
        "joint": [[round(float(value), 3) for value in row] for row in flags.joint],
    }
