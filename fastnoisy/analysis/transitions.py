"""How labels change: the transition matrix of a noise as counts, as tables to read, as a heat map, and as a folder.

Rows are clean classes, columns given ones. `counts` is int64 (C, C) throughout, as `noise.transition_counts` gives it,
and `rows` says what its rows are where clean classes are not known.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich import box
from rich.markup import escape
from rich.table import Table

from fastnoisy.analysis.text import printable, shorten_to
from fastnoisy.data.store import Split, Store
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing
from fastnoisy.noise import ASYMMETRIC_RULES, INSTANCE_VARIANTS, FileReading, NoiseSpec, dataset_of, transition_counts

MATRIX_UP_TO = 20  # classes; a wider matrix is read by nobody
_SUMMARY_ROWS = 100
_LARGEST_FLOWS = 20
_FAINTEST = 0.1  # percent: what the lightest colour stands for; nothing at all is white
_DOTS_PER_INCH = 150
_SMALLEST_NAME = 5.0  # points: about 10 pixels
_RULES = {
    "symmetric": "this share of the labels is drawn again over all classes, so some keep theirs",
    "symmetric:exclude_true": "each label goes with this probability to one of the other classes",
    "symmetric:dividemix": "this share of the labels is drawn again over all classes, by the draws of DivideMix's code",
    "asymmetric:sequential": "class by class, this share of those that bear it by then to the class it is mistaken for",
    "asymmetric:snapshot": "this share of each class to the class it is mistaken for",
    "asymmetric:no_dog_cat": "as sequential, but no dog becomes a cat",
    "asymmetric:dividemix": "this share of all labels, where their class has one that it is mistaken for",
    "asymmetric:superclass": "this share of all labels to the next class of their super-class",
    "asymmetric:index_blocks": "each label with this probability to the next class in its block of five classes",
    "pairflip": "each label with this probability to the next class, the last to the first",
    "instance:cores": "one random projection of the image's pixels decides which class it is mistaken for",
    "instance:pdn": "a random projection for each clean class decides which class the image is mistaken for",
    "human": "labels that people gave (CIFAR-N)",
    "file": "labels of your own",
}


@dataclass(frozen=True)
class Drawn:
    """Noise applied to a split.

    Attributes (N samples, C classes):
        spec: as resolved: the rule spelled out where there are several.
        seed: of the draws; `none`, `human` and `file` draw nothing.
        given: int64 (N,), the labels that would be trained on.
        reference: int64 (N,), what they are compared with: the clean labels where they are known, else the store's own.
        clean_known: whether `reference` is known to be right.
        counts: int64 (C, C), reference by given.
    """

    spec: NoiseSpec
    seed: int
    given: np.ndarray
    reference: np.ndarray
    clean_known: bool
    counts: np.ndarray

    @property
    def draws(self) -> bool:
        """Whether the seed matters."""
        return self.spec.kind not in ("none", "human", "file")

    @property
    def label(self) -> str:
        """Spec and seed for people."""
        return f"{self.spec} (seed {self.seed})" if self.draws else str(self.spec)

    @property
    def row_name(self) -> str:
        """What the rows of `counts` are: clean classes, or those that the store says."""
        return "clean" if self.clean_known else "stored"

    @property
    def rule(self) -> str:
        """What the noise does, in words."""
        kinds = {form.partition(":")[0]: text for form, text in NoiseSpec.kinds().items()}
        name = f"{self.spec.kind}:{self.spec.option}" if self.spec.option else self.spec.kind
        return _RULES.get(name) or _RULES.get(self.spec.kind, kinds[self.spec.kind].partition(";")[0])

    @property
    def wrong(self) -> np.ndarray:
        """Bool (N,): where the two differ."""
        return self.given != self.reference

    @property
    def rate(self) -> float:
        """The effective rate: the share of samples whose given label differs."""
        return float(self.wrong.mean())


def draw(store: Store, split: Split, spec: NoiseSpec, seed: int, reading: FileReading | None = None) -> Drawn:
    """Apply noise to a whole split; clean labels are those of the store, else, for noise put on labels, those before
    it.

    This is what a run trains on that uses the whole split. A run that holds rows out or takes a subset draws over its
    own.

    Args:
        reading: how a label file is read; paths and source are the split's.

    Raises:
        FastnoisyError: the noise cannot be drawn on this data set.
    """
    rows = np.arange(split.num_samples, dtype=np.int64)
    reading = dataclasses.replace(reading or FileReading(), paths=lambda: split.sources, source=split.source)
    given = spec.apply(split.given_labels, split.class_names, seed, rows, split.read_rows, store.path, reading)
    known = split.clean_labels is not None or spec.keeps_truth
    reference = split.given_labels if split.clean_labels is None else split.clean_labels
    counts = transition_counts(reference, given, len(split.class_names))
    return Drawn(_resolve(spec, split.class_names), seed, given, reference, known, counts)


def _resolve(spec: NoiseSpec, class_names: Sequence[str]) -> NoiseSpec:
    """The spec with the rule spelled out that it leaves to the data set."""
    if spec.option or spec.kind not in ("asymmetric", "instance"):
        return spec
    rules = INSTANCE_VARIANTS if spec.kind == "instance" else ASYMMETRIC_RULES[dataset_of(class_names)]
    return dataclasses.replace(spec, option=rules[0])


def rates(counts: np.ndarray) -> np.ndarray:
    """Per clean class the share of its samples that carry another label, float64 (C,); nan for a class without any."""
    totals = counts.sum(axis=1)
    return np.where(totals > 0, 1 - np.diag(counts) / np.maximum(totals, 1), np.nan)


def shares(counts: np.ndarray) -> np.ndarray:
    """The matrix with each row in percent of its class, float64 (C, C); a class without samples has zeros."""
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def matrix_table(counts: np.ndarray, class_names: Sequence[str], rows: str = "clean") -> Table:
    """The whole matrix: a row per clean class, a column per given one under its number, percent of the row; `.` is
    none.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column(f"{rows} \\ given", no_wrap=True)
    for number in range(len(class_names)):
        table.add_column(str(number), justify="right", no_wrap=True)
    for number, row in enumerate(shares(counts)):
        cells = ["." if not value else f"{value:.1f}" for value in row]
        cells[number] = f"[bold]{cells[number]}[/bold]"
        table.add_row(f"{number} {escape(shorten_to(printable(class_names[number]), 24))}", *cells)
    return table


def summary_table(counts: np.ndarray, class_names: Sequence[str], rows: str = "clean") -> Table:
    """A row per class: how many are clean, leave and come in, and where most go.

    Above 100 classes it shows the 50 noisiest and the 50 cleanest.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("class", rows, "given", "leave %", "wrong of given %", "most go to"):
        table.add_column(name, justify="left" if name in ("class", "most go to") else "right", no_wrap=True)
    rate, percent, given = rates(counts), shares(counts), counts.sum(axis=0)
    chosen: list[int] = list(range(len(class_names)))
    if len(chosen) > _SUMMARY_ROWS:
        chosen = np.argsort(-np.nan_to_num(rate, nan=-1), kind="stable").tolist()
        chosen = [*chosen[: _SUMMARY_ROWS // 2], -1, *chosen[-(_SUMMARY_ROWS // 2) :]]
    for number in chosen:
        if number < 0:
            table.add_row(f"... {len(class_names) - _SUMMARY_ROWS:,} more")
            continue
        away = np.where(np.arange(len(class_names)) == number, 0, percent[number])
        target = int(away.argmax())
        table.add_row(
            _label(class_names, number),
            f"{counts[number].sum():,}",
            f"{given[number]:,}",
            "-" if np.isnan(rate[number]) else f"{100 * rate[number]:.1f}",
            f"{100 * (given[number] - counts[number, number]) / given[number]:.1f}" if given[number] else "-",
            f"{_label(class_names, target)} {away[target]:.1f} %" if away[target] else "-",
        )
    return table


def flows_table(counts: np.ndarray, class_names: Sequence[str], rows: str = "clean") -> Table:
    """The 20 largest cells off the diagonal, by count."""
    flows = counts.copy()
    np.fill_diagonal(flows, 0)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in (rows, "given", "samples", f"% of the {rows} class"):
        table.add_column(name, justify="left" if name in (rows, "given") else "right", no_wrap=True)
    percent = shares(counts)
    for place in np.argsort(-flows, axis=None, kind="stable")[:_LARGEST_FLOWS].tolist():
        clean, given = divmod(place, len(class_names))
        if flows[clean, given]:
            names = _label(class_names, clean), _label(class_names, given)
            table.add_row(*names, f"{flows[clean, given]:,}", f"{percent[clean, given]:.1f}")
    return table


def heat_map(counts: np.ndarray, class_names: Sequence[str], title: str, rows: str = "clean") -> Figure:
    """The matrix as a picture, each row in percent of its clean class, on a logarithmic scale from 0.1 to 100.

    On a linear scale the few percent off the diagonal look like none. Up to 20 classes the cells hold their
    percentages; every class is named as long as names are at least 5 points high, beyond that every k-th.
    """
    num_classes = len(class_names)
    numbered = num_classes <= MATRIX_UP_TO
    small = min(float(np.clip(11 / num_classes, 0.13, 0.35)), 26 / num_classes)
    cell = max(0.52, 2.6 / num_classes) if numbered else small  # inches
    names = [shorten_to(printable(name), 24) for name in class_names]
    step = max(1, int(np.ceil(_SMALLEST_NAME / (54 * cell))))  # a name may take three quarters of its 72 points an inch
    size = float(np.clip(54 * cell * step, _SMALLEST_NAME, 10))
    side, label = cell * num_classes, 0.0085 * size * max(map(len, names))
    figsize = max(side + label + 1.9, 5.4), max(side + label + 1.1, 3.6)
    layout = ConstrainedLayoutEngine(rect=(0.02, 0.01, 0.97, 0.98))  # equal aspect puts the row name past its margin
    figure = Figure(figsize, _DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    percent = shares(counts)
    norm = LogNorm(_FAINTEST, 100, clip=True)
    shown = np.ma.masked_less_equal(percent, 0)  # nothing at all stays white
    image = axes.imshow(shown, cmap="YlGnBu", norm=norm, interpolation="nearest", aspect="equal")
    _name_axes(axes, names, step, size)
    large = float(np.clip(0.9 * side, 10, 16))
    axes.set_xlabel("given class", fontsize=large)
    axes.set_ylabel(f"{rows} class", fontsize=large)
    axes.set_title("\n".join(map(printable, title.splitlines())), fontsize=large + 1, parse_math=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=28)
    bar.set_ticks([0.1, 1, 10, 100], labels=["≤ 0.1", "1", "10", "100"])
    bar.set_ticks([], minor=True)
    bar.set_label(f"% of the {rows} class (white: none)", fontsize=large)
    bar.ax.tick_params(labelsize=large)
    for row, column in np.argwhere(percent) if numbered else []:
        value = percent[row, column]
        text = f"{value:.1f}" if value < 99.95 else "100"
        colour = "white" if norm(value) > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    return figure


def _name_axes(axes: Axes, names: list[str], step: int, size: float) -> None:
    places = range(0, len(names), step)
    chosen = [names[place] for place in places]
    axes.set_xticks(places, chosen, rotation=90, fontsize=size)
    axes.set_yticks(places, chosen, fontsize=size)
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        text.set_parse_math(False)  # a dollar sign is part of the name
    axes.tick_params(length=2, pad=2)


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script it does not know
        figure.savefig(path, dpi="figure", format="png")


def check_new(out: Path) -> Path:
    """The folder to write, absolute.

    Raises:
        FastnoisyError: it is there and not an empty folder.
    """
    out = out.resolve()
    if out.is_dir() and not any(out.iterdir()):
        return out
    if os.path.lexists(out):
        raise FastnoisyError(f"{out} exists already and is not an empty folder", "remove it, or choose another name")
    return out


def write_folder(out: Path, drawn: Drawn, class_names: Sequence[str], figure: Figure) -> None:
    """Write labels.npy, labels.csv, transitions.csv and transitions.png into a new folder: all of them, or nothing.

    Raises:
        FastnoisyError: the folder is there and not empty.
        OSError: it cannot be written.
    """
    out = check_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        partial.mkdir()
        np.save(partial / "labels.npy", drawn.given)
        _write_labels(partial / "labels.csv", drawn, class_names)
        _write_counts(partial / "transitions.csv", drawn, class_names)
        save_figure(figure, partial / "transitions.png")


def _write_labels(path: Path, drawn: Drawn, class_names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "given_label", "clean_label"])
        for index, (given, clean) in enumerate(zip(drawn.given.tolist(), drawn.reference.tolist(), strict=True)):
            writer.writerow([index, class_names[given], class_names[clean] if drawn.clean_known else ""])


def _write_counts(path: Path, drawn: Drawn, class_names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([f"{drawn.row_name} \\ given", *class_names])
        for name, row in zip(class_names, drawn.counts.tolist(), strict=True):
            writer.writerow([name, *row])


def _label(class_names: Sequence[str], number: int) -> str:
    return escape(shorten_to(printable(class_names[number]), 24))
