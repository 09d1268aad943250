"""The folder SPLIT.meta beside a .beton file: what stands in its small files, written and read.

meta.json       format, canvas, class names, number of samples, source, options, size and digest of the .beton
labels.npz      given (int64) and, where known, clean (int64), one per record
sources.txt     where each record came from, one a line; backslash and line ends are escaped
sizes.npy       int32 (N, 2), height and width
checksums.npy   uint32 (N,), crc32 of each record's bytes
rejected.csv    path and reason of what was not stored
notes.csv       path and note of what is stored otherwise: a first frame, encoded anew
SHA256SUMS      digests of the files above
verified.json   size and digest of the .beton whose records were all read and found right
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastnoisy.data.store import beton
from fastnoisy.data.store.digests import write_sums
from fastnoisy.errors import FastnoisyError
from fastnoisy.files import replacing

FORMAT = 1
META_FILES = ("checksums.npy", "labels.npz", "meta.json", "notes.csv", "rejected.csv", "sizes.npy", "sources.txt")
REMEDY = "convert the source again, or copy the store again from where it is whole"


@dataclass(frozen=True)
class Columns:
    """What stands beside N records.

    Attributes:
        labels: `given` and, where they are known, `clean`: int64 (N,).
        paths: N texts, where each record came from.
        sizes: int32 (N, 2), height and width.
        checksums: uint32 (N,), crc32 of each record's bytes.
        rejected, noted: paths and texts, of what was not stored, and of what is stored in part.
    """

    labels: dict[str, np.ndarray]
    paths: list[str]
    sizes: np.ndarray
    checksums: np.ndarray
    rejected: list[tuple[str, str]]
    noted: list[tuple[str, str]]


def write_meta(meta: Path, path: Path, columns: Columns, info: dict[str, Any]) -> int:
    """Write the folder `meta` beside the .beton file `path`, all of whose records were found right; returns its size.

    Raises:
        OSError: the disk is full, or fails.
    """
    meta.mkdir(exist_ok=True)
    np.savez(meta / "labels.npz", **columns.labels)  # type: ignore[arg-type]
    np.save(meta / "sizes.npy", columns.sizes)
    np.save(meta / "checksums.npy", columns.checksums)
    write_paths(meta / "sources.txt", columns.paths)
    for name, column, rows in (("rejected", "reason", columns.rejected), ("notes", "note", columns.noted)):
        write_listed(meta / f"{name}.csv", column, rows)
    reader = beton.BetonReader(path)  # what was written, read back: the digest is of the file, not of what was meant
    reader.close()
    stamp = {"num_bytes": reader.num_bytes, "digest": reader.digest}
    counts = {
        "num_samples": len(columns.paths), "num_rejected": len(columns.rejected), "num_noted": len(columns.noted)
    }  # fmt: skip
    write_json(meta / "meta.json", {**info, **counts, **stamp})
    write_sums(meta, META_FILES)
    write_json(meta / "verified.json", stamp)
    return reader.num_bytes


def write_listed(path: Path, column: str, rows: Sequence[tuple[str, str]]) -> None:
    """A CSV of paths and what is told of them."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("path", column))
        lines.writerows(rows)


def read_listed(path: Path) -> list[tuple[str, str]]:
    """The paths and texts in a CSV that `write_listed` wrote; empty where there is none.

    Raises:
        FastnoisyError: it cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [(row[0], row[1]) for row in csv.reader(file)][1:]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", REMEDY) from None
    except (csv.Error, IndexError) as error:
        raise FastnoisyError(f"{path} is damaged: {error}", REMEDY) from None


def write_paths(path: Path, texts: Sequence[str]) -> None:
    """Write texts to a file, one a line."""
    path.write_bytes("".join(f"{escape(text)}\n" for text in texts).encode("utf-8", "surrogateescape"))


def escape(text: str) -> str:
    """A text as one line: backslash, line feed and carriage return are escaped."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(line: str) -> str:
    """The text that `escape` made this line of."""
    parts = line.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)


def read_paths(path: Path) -> list[str]:
    """The texts in a file of escaped lines.

    Raises:
        FastnoisyError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", REMEDY) from None
    return [unescape(line) for line in text.split("\n")[:-1]]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FastnoisyError: it cannot be read, or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", REMEDY) from None
    except ValueError as error:
        raise FastnoisyError(f"{path} is damaged: {error}", REMEDY) from None
    if not isinstance(content, dict):
        raise FastnoisyError(f"{path} is damaged: no JSON object", REMEDY)
    return content


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of an .npy file under the file's name."""
    try:
        with open(path, "rb") as file:  # given a path, numpy leaves a damaged file open
            content = np.load(file, allow_pickle=False)
            return {path.stem: content} if isinstance(content, np.ndarray) else dict(content)
    except OSError as error:
        raise FastnoisyError(f"cannot read {path}: {error.strerror or error}", REMEDY) from None
    except Exception as error:  # numpy reads the header as Python source, so even tokenize.TokenError comes out
        raise FastnoisyError(f"{path} is damaged: {error}", REMEDY) from None
