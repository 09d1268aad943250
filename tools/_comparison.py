"""What two runs or two stores have in common: their results file by file, tensor by tensor, and what is meant to
differ.

For tools/equal_runs.py, which has the two made. A run folder is read by its files' formats alone, not by the package,
so that trees of which each lays out its code otherwise are read by one reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """What differs between two trees.

    Attributes:
        file: within the run's or the store's folder.
        name: the tensor, the array or the entry in it; empty for a file as a whole.
        base, new: what either has, in words or as a number; ABSENT where it has none.
        size: the largest absolute difference of two arrays of the same shape.
    """

    file: str
    name: str
    base: Any
    new: Any
    size: float | None = None

    def __str__(self) -> str:
        place = f"{self.file}: {self.name}" if self.name else self.file
        return f"{place}: {self.base} -> {self.new}" + (
            "" if self.size is None else f" (at most {self.size:.3g} apart)"
        )


@dataclass(frozen=True)
class Intended:
    """A change that is meant.

    Attributes:
        what: a few words.
        reason: why it is right.
        matches: whether a difference is this change.
        runs: the runs in which it is meant; empty: in all.
    """

    what: str
    reason: str
    matches: Callable[[Difference], bool]
    runs: tuple[str, ...] = ()


CMYK = "CMYK colours, encoded anew"
_NOTED = {("SHA256SUMS", "notes.csv"), ("SHA256SUMS", "meta.json"), ("meta.json", ".num_noted")}


def _noted(difference: Difference) -> bool:
    """A new line of notes.csv about a CMYK file, and what follows from it in the files that count and sum it up."""
    name = difference.file.rpartition("/")[2]
    if name == "notes.csv":
        return difference.base == ABSENT and str(difference.new).endswith(f',"{CMYK}"')
    return (name, difference.name) in _NOTED


INTENDED: list[Intended] = [  # against fe6b4ce
    Intended(
        "notes on CMYK files",
        "what is encoded anew without being asked for is told in notes.csv",
        _noted,
        ("photographs", "photographs-as-they-are"),
    ),
]


@dataclass
class Comparison:
    """What was compared, by kind, and what differs."""

    counts: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def count(self, kind: str, number: int = 1) -> None:
        """Note that so many of a kind were compared."""
        self.counts[kind] = self.counts.get(kind, 0) + number


def compare_stores(base: Path, new: Path) -> Comparison:
    """Every file's bytes. Where those of a small text differ, its entries or lines are told."""
    result = Comparison()
    for name in _shared(result, *(_files(folder) for folder in (base, new))):
        result.count("files")
        read = next((read for ending, read in _TEXTS.items() if name.endswith(ending)), None)
        if read is None:
            _compare_bytes(result, name, base / name, new / name)
        elif (a := (base / name).read_bytes()) != (b := (new / name).read_bytes()):
            _compare_tables(result, name, read(a.decode()), read(b.decode()))
    return result


def compare_runs(base: Path, new: Path) -> Comparison:
    """The results of two run folders; what a folder holds besides is not looked at."""
    result = Comparison()
    for name in ("metrics.jsonl", "labels.npz", "issues.csv", "checkpoints"):
        _both(result, name, base / name, new / name)
    _compare_metrics(result, base / "metrics.jsonl", new / "metrics.jsonl")
    _compare_arrays(result, "labels.npz", "labels", *(_npz(folder / "labels.npz") for folder in (base, new)))
    _compare_bytes(result, "issues.csv", base / "issues.csv", new / "issues.csv")
    result.count("issues.csv")
    for name in _shared(result, *(_checkpoints(folder) for folder in (base, new))):
        result.count("checkpoints")
        weights, state = f"{name}/model.safetensors", f"{name}/state.pt"
        _compare_arrays(result, weights, "tensors", *(_weights(folder / weights) for folder in (base, new)))
        _compare_arrays(result, state, "tensors", *(_state(folder / state) for folder in (base, new)))
    return result


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _checkpoints(run: Path) -> list[str]:
    """Those between epochs, and the chosen one. Where in an epoch a run was interrupted is left to chance."""
    names = (str(path.parent.relative_to(run)) for path in run.glob("checkpoints/*/model.safetensors"))
    return sorted(name for name in names if name.endswith(("/best", "-pass-0-step-000000")))


def _shared(result: Comparison, base: list[str], new: list[str]) -> list[str]:
    """Names that both have; the others are differences."""
    result.differences += [Difference(name, "", "present", ABSENT) for name in base if name not in new]
    result.differences += [Difference(name, "", ABSENT, "present") for name in new if name not in base]
    return [name for name in base if name in new]


def _both(result: Comparison, name: str, base: Path, new: Path) -> None:
    """Note that one or both lack a file that every run has."""
    if not (base.exists() and new.exists()):
        said = [("present" if path.exists() else ABSENT) for path in (base, new)]
        result.differences.append(Difference(name, "", *said))


def _compare_bytes(result: Comparison, name: str, base: Path, new: Path) -> None:
    if not (base.exists() and new.exists()):
        return  # said by `_both`
    a, b = base.read_bytes(), new.read_bytes()
    if a == b:
        return
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    lines = [f"{len(c):,} bytes, {bytes(c[place : place + 40])!r}" for c in (a, b)]
    result.differences.append(Difference(name, f"byte {place:,}", *lines))


def _lines(text: str) -> dict[str, Any]:
    """Each line by itself: which are there, not where."""
    return {line: line for line in text.splitlines()}


def _sums(text: str) -> dict[str, Any]:
    """Digests by the names of their files."""
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in text.splitlines())}


_TEXTS: dict[str, Callable[[str], dict[str, Any]]] = {
    ".csv": _lines,
    "SHA256SUMS": _sums,
    ".json": lambda text: dict(_leaves(json.loads(text))),
}


def _compare_tables(result: Comparison, file: str, base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    differing = [name for name in {**base, **new} if base.get(name, ABSENT) != new.get(name, ABSENT)]
    for name in differing:
        result.differences.append(Difference(file, name, base.get(name, ABSENT), new.get(name, ABSENT)))
    if not differing:  # the same entries, written otherwise
        result.differences.append(Difference(file, "", "as it is", "the same entries, written otherwise"))


def _compare_metrics(result: Comparison, base: Path, new: Path) -> None:
    lines = [[json.loads(t) for t in p.read_text().splitlines()] if p.exists() else [] for p in (base, new)]
    flat = [{f"line {i}{key}": v for i, line in enumerate(one) for key, v in _leaves(line)} for one in lines]
    result.count("metrics", len(flat[0]))
    for name in sorted({*flat[0], *flat[1]}):
        a, b = (one.get(name, ABSENT) for one in flat)
        if a != b and not (a != a and b != b):  # NaN equals NaN here
            numbers = all(isinstance(value, (int, float)) for value in (a, b))
            result.differences.append(Difference("metrics.jsonl", name, a, b, abs(a - b) if numbers else None))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested tables and lists by their dotted names; `time` is left out, and the checksum over it."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key not in ("time", "crc32"):
                yield from _leaves(entry, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, entry in enumerate(value):
            yield from _leaves(entry, f"{name}.{i}")
    else:
        yield name, value


def _compare_arrays(result: Comparison, file: str, kind: str, base: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Two tables of tensors, bit for bit by name."""
    import torch

    for name in [*base, *(name for name in new if name not in base)]:
        result.count(kind)
        a, b = base.get(name), new.get(name)
        if a is not None and b is not None and (a.dtype, a.shape) == (b.dtype, b.shape):
            if torch.equal(_bits(a), _bits(b)):
                continue
            differing = a.double().sub(b.double()).abs()  # NaN where one is: said as it is
            said = [one.item() if one.numel() == 1 else _words(one) for one in (a, b)]
            result.differences.append(Difference(file, name, *said, differing.max().item()))
        else:
            said = [ABSENT if one is None else one.item() if one.numel() == 1 else _words(one) for one in (a, b)]
            result.differences.append(Difference(file, name, *said))


def _bits(tensor: Any) -> Any:
    import torch

    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8) if len(flat) else torch.empty(0, dtype=torch.uint8)  # no view of an empty one


def _words(tensor: Any) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _npz(path: Path) -> dict[str, Any]:
    """The arrays of a .npz file as tensors, those of text as their bytes. `origin` tells where a run's store lies, and
    `digest` is of that too: both are left out.
    """
    import numpy as np
    import torch

    if not path.exists():
        return {}
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files if name not in ("origin", "digest")}
    text = {
        name: np.frombuffer(array.tobytes(), np.uint8)
        for name, array in arrays.items()
        if array.dtype.kind not in "biuf"
    }
    return {name: torch.from_numpy(np.array(text.get(name, array))) for name, array in arrays.items()}


def _weights(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(path) if path.exists() else {}


def _state(path: Path) -> dict[str, Any]:
    """The tensors of a state file's tables `method` and `optimizer`, at whatever depth these stand."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
    found = {}
    for part in ("method", "optimizer"):
        for name, value in _leaves(_find(state, part) or {}):
            if isinstance(value, torch.Tensor):
                found[f"{part}{name}"] = value
    return found


def _find(table: Mapping[Any, Any], key: str) -> Mapping[Any, Any] | None:
    if isinstance(table.get(key), Mapping):
        return table[key]
    inner = (_find(entry, key) for entry in table.values() if isinstance(entry, Mapping))
    return next((found for found in inner if found is not None), None)


def sort_out(
    found: Sequence[Difference], intended: Sequence[Intended], run: str = ""
) -> tuple[list[Difference], dict[str, int]]:
    """Those differences of a run that nobody meant, and how often each intended change was met."""
    met = {entry.what: 0 for entry in intended}
    rest = []
    for difference in found:
        entry = next((e for e in intended if (not e.runs or run in e.runs) and e.matches(difference)), None)
        if entry is None:
            rest.append(difference)
        else:
            met[entry.what] += 1
    return rest, met
