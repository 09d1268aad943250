"""`NoiseSpec`: the text by which a run names its noise, such as `asymmetric:0.4` or `human:worse`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnoisy.errors import FastnoisyError, unknown_name
from fastnoisy.noise import cifarn
from fastnoisy.noise.cifar import CIFAR100_SUPERCLASSES, dataset_of
from fastnoisy.noise.class_conditional import ASYMMETRIC_RULES, asymmetric, pair_flip, symmetric
from fastnoisy.noise.files import FileReading, from_file
from fastnoisy.noise.instance import INSTANCE_VARIANTS, from_reader
from fastnoisy.noise.labels import check_range

_FORMS = {
    "none": ("none", "the labels as they are"),
    "symmetric": (
        "symmetric:RATE[:exclude_true|:dividemix]",
        "a share of the labels redrawn over all classes; exclude_true: over the other classes",
    ),
    "asymmetric": (
        "asymmetric:RATE[:RULE]",
        "CIFAR's classes alone, each to the one it is mistaken for; "
        + "; ".join(f"{name}: {', '.join(rules)}" for name, rules in ASYMMETRIC_RULES.items()),
    ),
    "pairflip": ("pairflip:RATE", "each class to the next one"),
    "instance": ("instance:RATE[:cores|:pdn]", "the image decides which class it is mistaken for"),
    "human": (
        "human:KEY[:PATH]",
        f"CIFAR-N, labels that people gave; KEY: {', '.join(cifarn.LABEL_SETS)}; PATH: its file, else beside the data",
    ),
    "file": ("file:PATH", "labels of your own, by path or index: a table or an array"),
}
_OPTIONS = {
    "symmetric": ("exclude_true", "dividemix"),
    "asymmetric": tuple(rule for rules in ASYMMETRIC_RULES.values() for rule in rules),
    "pairflip": (),
    "instance": INSTANCE_VARIANTS,
}
_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cifar100-coarse": "CIFAR-100's 20 super-classes"}


@dataclass(frozen=True)
class NoiseSpec:
    """A parsed noise spec. `str(spec)` is the text that parses to it again.

    Attributes:
        kind: `none`, `symmetric`, `asymmetric`, `pairflip`, `instance`, `human` or `file`.
        rate: share in [0, 1] where the kind has one.
        option: what follows the rate, or the key of `human`; empty for the default.
        path: of the file, as written.
    """

    kind: str
    rate: float = 0.0
    option: str = ""
    path: str = ""

    @staticmethod
    def kinds() -> dict[str, str]:
        """How each kind is written, and one line on what it does."""
        return dict(_FORMS.values())

    @classmethod
    def parse(cls, text: str) -> NoiseSpec:
        """Parse one of the forms that `kinds` lists.

        Raises:
            FastnoisyError: names what was wrong and what is allowed.
        """
        kind, _, rest = text.partition(":")
        if kind not in _FORMS:
            near = unknown_name("noise", kind, _FORMS)
            raise FastnoisyError(near.message, f"Write one of {', '.join(cls.kinds())}")
        if kind == "none":
            if rest:
                raise FastnoisyError(f"noise {text!r}: none takes nothing after it")
            return cls("none")
        if kind == "file":
            if not rest:
                raise FastnoisyError(f"noise {text!r} names no file", "Write noise=file:PATH")
            return cls("file", path=rest)
        first, _, option = rest.partition(":")
        if kind == "human":
            return cls("human", option=cifarn.short_key(first), path=option)
        try:
            rate = float(first)
        except ValueError:
            rate = float("nan")
        if not 0 <= rate <= 1:
            raise FastnoisyError(
                f"noise {text!r}: the rate {first!r} must be a number between 0 and 1", f"Write noise={kind}:0.4"
            )
        if option and not _OPTIONS[kind]:
            raise FastnoisyError(f"noise {text!r}: {kind} takes nothing after the rate", f"Write noise={kind}:{first}")
        if option and option not in _OPTIONS[kind]:
            raise unknown_name(f"option of {kind} noise", option, _OPTIONS[kind])
        return cls(kind, rate, option)

    def __str__(self) -> str:
        parts = [self.kind]
        if self.kind in _OPTIONS:
            parts.append(repr(float(self.rate)))
        return ":".join(parts + [part for part in (self.option, self.path) if part])

    @property
    def keeps_truth(self) -> bool:
        """Whether the labels before this noise are the clean ones: noise that is put on labels implies that they
        are.
        """
        return self.kind not in ("none", "file")

    def absolute(self) -> NoiseSpec:
        """The same with a file's path made absolute."""
        return dataclasses.replace(self, path=os.path.abspath(self.path)) if self.path else self

    def apply(
        self,
        labels: np.ndarray,
        class_names: Sequence[str],
        seed: int,
        rows: np.ndarray,
        images: Callable[[np.ndarray], np.ndarray] | None = None,
        folder: Path | str | None = None,
        reading: FileReading | None = None,
    ) -> np.ndarray:
        """The noisy labels, int64 (N,).

        Args:
            labels: (N,) integers, the labels of the whole split, which count as clean unless the kind is none or file.
            class_names: C names; asymmetric and human noise belong to CIFAR's.
            seed: of whatever is drawn.
            rows: int64, the rows in use (all, or a subset); noise is drawn over these alone in this order, others keep
                their labels.
            images: rows, int64 (n,), to their images, uint8 (n, H, W, 3), RGB; `instance` needs it and calls it with a
                few thousand rows at a time.
            folder: where `human:KEY` without a path looks for the published file.
            reading: what a label file is read with.

        Raises:
            FastnoisyError: classes that the noise is not made for, images missing or of differing size, or a file that
                is missing, damaged, or about other rows.
        """
        count = len(class_names)
        noisy = check_range(np.array(labels, np.int64), count, "the training split")
        clean = noisy[rows]
        if self.kind == "symmetric":
            choice = {"exclude_true": self.option == "exclude_true", "dividemix": self.option == "dividemix"}
            noisy[rows] = symmetric(clean, self.rate, count, seed, **choice)
        elif self.kind == "asymmetric":
            noisy[rows] = asymmetric(clean, self.rate, self._asymmetric_dataset(class_names), seed, self.option)
        elif self.kind == "pairflip":
            noisy[rows] = pair_flip(clean, self.rate, count, seed)
        elif self.kind == "instance":
            if images is None:
                raise FastnoisyError(f"noise {self} needs the images, and there are none here")
            read, chosen = images, np.asarray(rows)
            variant = self.option or INSTANCE_VARIANTS[0]
            noisy[rows] = from_reader(lambda part: read(chosen[part]), clean, self.rate, count, seed, variant)
        elif self.kind == "human":
            path = self._human_path(class_names, folder)
            noisy[rows] = check_range(cifarn.human(path, self.option, noisy), count, str(path))[rows]
        elif self.kind == "file":
            noisy[rows] = from_file(self.path, noisy, class_names, reading)[rows]
        return noisy

    def _asymmetric_dataset(self, class_names: Sequence[str]) -> str:
        dataset = dataset_of(class_names)
        remedy = f"Write noise=pairflip:{self.rate!r}, which flips each class to the next one"
        if not dataset:
            raise FastnoisyError(
                "asymmetric noise is made for the classes of CIFAR-10 and CIFAR-100 in their order, and this data set "
                "has "
                f"{_shown(class_names)}",
                remedy,
            )
        rules = ASYMMETRIC_RULES[dataset]
        if self.option and self.option not in rules:
            raise FastnoisyError(
                f"noise {self}: this data set has the classes of {_TITLES[dataset]}, whose rules are "
                f"{', '.join(rules)}",
                f"Write noise=asymmetric:{self.rate!r}:{rules[0]}, or pairflip:{self.rate!r}",
            )
        return dataset

    def _human_path(self, class_names: Sequence[str], folder: Path | str | None) -> Path:
        wanted = cifarn.LABEL_SETS[self.option].dataset
        dataset = dataset_of(class_names)
        if tuple(class_names) == CIFAR100_SUPERCLASSES:
            dataset = "cifar100-coarse"
        if dataset and dataset != wanted:
            fitting = [key for key, labels in cifarn.LABEL_SETS.items() if labels.dataset == dataset]
            raise FastnoisyError(
                f"noise human:{self.option} is of {_TITLES[wanted]}, and this data set has the classes of "
                f"{_TITLES[dataset]}",
                f"Write noise=human:{' or human:'.join(fitting)}",
            )
        if self.path:
            return Path(self.path)  # classes of other names are fine where every label agrees
        if not dataset:
            raise FastnoisyError(
                f"noise {self} is of {_TITLES[wanted]}, and this data set has {_shown(class_names)}",
                f"Where they are the same images under other names, write noise={self}:PATH",
            )
        name = cifarn.FILES[dataset]
        if folder is not None and (Path(folder) / name).is_file():
            return Path(folder) / name
        where = "" if folder is None else f", which is not in {folder}"
        raise FastnoisyError(
            f"noise {self} needs the file {name}{where}",
            ("Write" if folder is None else "Put it there, or write")
            + f" noise={self}:PATH; it is published at {cifarn.PUBLISHED}",
        )


def _shown(class_names: Sequence[str]) -> str:
    names = ", ".join(class_names[:3])
    return f"{len(class_names)} classes: {names}" + (", ..." if len(class_names) > 3 else "")
