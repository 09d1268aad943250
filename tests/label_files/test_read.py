"""The reader of tables: every form that people bring, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy.errors import FastnoisyError
from fastnoisy.label_files import read
from fastnoisy.label_files.corrections import Rows, correct
from fastnoisy.label_files.read import open_table

PATHS = ["a.png", "b.png", "c, d.png", "e.png"]
NAMES = ["cat", "dog", "owl"]
LABELS = [2, 0, 1, 1]


def labels(path: Path) -> list[int]:
    found, _ = correct(path, {"train": Rows(np.zeros(4, np.int64), PATHS)}, NAMES)
    return found["train"].labels.tolist()


TEXTS = {
    "bare.txt": "2\n0\n1\n1\n",
    "mark.csv": "\ufefflabel\r\n2\r\n0\r\n1\r\n1\r\n",  # as spreadsheets write it
    "floats.csv": "label\n2.0\n0.0\n1.\n+1\n",
    "header.CSV": '"index","label"\n"3","1"\n"0","2"\n"2","1"\n"1","0"\n',
    "semicolons.csv": 'Path;Label\n"c, d.png";1\ne.png;dog\n'.replace(";1", ";dog") + "a.png;owl\nb.png;cat\n",
    "tabs.tsv": "class\tfile_name\nowl\ta.png\ncat\tb.png\ndog\tc, d.png\ndog\te.png\n",
    "spaces.csv": 'label , index\n 1 , 3 \n\n2, 0\n 1, 2\n0,1\n,\n',
    "several lines.csv": 'label,note\n2,"two\nlines"\n0,\n1,\n1,\n',
    "no header.csv": 'a.png,owl\nb.png,cat\n"c, d.png",dog\ne.png,dog\n',
    "pandas.csv": ',label,score\n3,1,0.5\n0,2,0.25\n1,0,1e-3\n2,1,0.5\n',
    "cleanlab.csv": "Unnamed: 0,is_label_issue,label_quality,given_label,predicted_label\n"
    "1,True,0.1,0,2\n0,False,0.9,2,2\n2,False,0.9,1,1\n3,False,0.9,1,1\n",
    "names.csv": "Image Name,Given-Label\ne.png,dog\na.png,owl\nb.png,cat\n\"c, d.png\",dog\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_texts_as_people_and_their_tools_write_them(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(TEXTS[name].encode(encoding))
    assert labels(tmp_path / name) == LABELS


JSONS: dict[str, Any] = {
    "list": LABELS,
    "floats": [2.0, 0.0, 1.0, 1.0],
    "names": ["owl", "cat", "dog", "dog"],
    "columns of one": [[2], [0], [1], [1]],
    "rows": [["b.png", "cat"], ["a.png", "owl"], ["e.png", "dog"], ["c, d.png", "dog"]],
    "objects": [{"path": "b.png", "label": 0}, {"label": 2, "path": "a.png"}, {"path": "e.png", "label": 1.0},
                {"path": "c, d.png", "label": 1}],
    "columns": {"path": ["b.png", "a.png", "e.png", "c, d.png"], "label": ["cat", "owl", "dog", "dog"]},
    "by path": {"b.png": "cat", "a.png": "owl", "e.png": "dog", "c, d.png": "dog"},
    "by index": {"3": 1, "0": 2, "1": 0, "2": 1},
    "pandas": {"label": {"3": 1, "0": 2, "1": 0, "2": 1}},
    "one column": {"labels": LABELS},
}  # fmt: skip


@pytest.mark.parametrize("name", JSONS)
def test_json(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.JSON").write_text(json.dumps(JSONS[name]))
    assert labels(tmp_path / "a.JSON") == LABELS
    torch.save(JSONS[name], tmp_path / "a.pt")  # the same, as torch saves it
    assert labels(tmp_path / "a.pt") == LABELS
    if isinstance(JSONS[name], list):
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(item) for item in JSONS[name]))
        assert labels(tmp_path / "a.jsonl") == LABELS


def test_arrays(tmp_path: Path) -> None:
    array = np.array(LABELS)
    for number, form in enumerate(
        (array, array.astype(np.uint8), array[:, None], array.astype(np.float32), np.array(NAMES)[array],
         np.array([b"owl", b"cat", b"dog", b"dog"]))
    ):  # fmt: skip
        np.save(tmp_path / f"{number}.npy", form)
        assert labels(tmp_path / f"{number}.npy") == LABELS
        np.savez(tmp_path / f"{number}.npz", given=form, train=np.arange(3))  # as a run's labels.npz
        assert labels(tmp_path / f"{number}.npz") == LABELS
    np.savez(tmp_path / "named.npz", index=np.array([1, 0, 3, 2]), label=np.array([0, 2, 1, 1]))
    assert labels(tmp_path / "named.npz") == LABELS
    np.save(tmp_path / "gaps.npy", np.array([2, np.nan, 1, 1]))
    assert labels(tmp_path / "gaps.npy") == LABELS  # row 1 keeps its 0
    torch.save(torch.tensor(LABELS)[:, None], tmp_path / "tensor.pt")
    torch.save({"noisy_label": array, "index": np.arange(4)}, tmp_path / "dict.PTH")
    assert labels(tmp_path / "tensor.pt") == labels(tmp_path / "dict.PTH") == LABELS


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"score": [0.5] * 4, "label": [1.0, 2, 0, 1], "file": ["e.png", "a.png", "b.png", "c, d.png"]}
    parquet.write_table(arrow.table(columns), tmp_path / "a.Parquet")
    assert labels(tmp_path / "a.Parquet") == LABELS
    twice = arrow.table([arrow.array([1, 2]), arrow.array([1, 2]), arrow.array(["a", "b"])], ["label", "label", "path"])
    parquet.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(FastnoisyError, match="has two columns called 'label'"):
        labels(tmp_path / "b.parquet")


HUGE = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,)}"
HUGE = HUGE.ljust(128) + b"\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"path,label\na.png\n", r"line 2, has 1 columns, where 2 belong.*in quotes"),
        ("a.csv", b'label\n"2\n' + b"1\n" * 100_000, r"cannot be read: field larger.*quote that is not closed"),
        ("a.csv", b"\x00" * 200_000, "cannot be read"),
        ("a.csv", b"label\n\xff\xfe\n", r"holds 1 labels"),
        ("a.csv", b"path,label\na.png,\xe9t\xe9\n", r"line 2, has the label '\\udce9t\\udce9'"),
        ("a.csv", b"label,Label\n1,2\n", "two columns called 'label'"),
        ("a.json", b"{", "cannot be read"),
        ("a.json", b"[" * 100_000, "cannot be read"),
        ("a.json", b'{"a.png": 1, "a.png": 2}', "the key 'a.png' is there twice"),
        ("a.json", b'{"path": ["a.png"], "label": [1, 2]}', "its columns have other lengths"),
        ("a.json", b'{"label": [[1, 2], [3, 4]]}', "line 1, has list"),
        ("a.json", b"[]", "is empty"),
        ("a.json", b"3", "labels are a vector"),
        ("a.json", b'[{"label": 1}, 2]', "some of its items are objects"),
        ("a.json", b'[{"path": "a.png", "label": 0.5}]', "line 1, has float '0.5' as label"),
        ("a.json", b'[{"path": "a.png", "label": true}]', "line 1, has bool 'True' as label"),
        ("a.jsonl", b'{"path": "a.png"}\n{', "cannot be read"),
        ("a.parquet", b"PAR1", "is no Parquet file, or damaged"),
        ("a.npy", HUGE, "cannot be read"),
        ("a.npz", b"PK\x03\x04", "cannot be read"),
        ("a.pt", b"PK\x03\x04", "cannot be read"),
        ("a.pkl", b"", r"unknown ending '\.pkl', known: \.csv"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FastnoisyError, match=message) as caught:
        labels(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert "\n" not in str(caught.value)


def test_arrays_that_are_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "onehot.npy", np.eye(3))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "lengths.npz", index=np.arange(3), label=np.arange(4))
    np.save(tmp_path / "half.npy", np.array([0.5, 1, 1, 1]))
    for name, message in (
        ("onehot.npy", r"labels are a vector, this is float64 of shape \(3, 3\)"), ("objects.npy", "cannot be read"),
        ("lengths.npz", "other lengths than one another: 'index' 3, 'label' 4"), ("half.npy", "label '0.5'"),
    ):  # fmt: skip
        with pytest.raises(FastnoisyError, match=message):
            labels(tmp_path / name)
    np.savez(tmp_path / "cut.npz", given=np.array(LABELS))
    data = (tmp_path / "cut.npz").read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 10):
        (tmp_path / "cut.npz").write_bytes(data[:keep])
        with pytest.raises(FastnoisyError, match="cannot be read"):
            labels(tmp_path / "cut.npz")


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_nothing_that_a_file_names_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"label": _Runs()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(FastnoisyError, match=r"names posix\.mkdir, which no file of labels needs; nothing was run"):
        labels(tmp_path / "a.pt")
    with pytest.raises(FastnoisyError, match="cannot be read"):
        labels(tmp_path / "b.pt")
    assert not (tmp_path / "ran").exists()


def test_a_flipped_bit_in_a_torch_file_is_seen(tmp_path: Path) -> None:
    """Torch itself takes the tensor as it is."""
    torch.save(torch.tensor(LABELS * 100), tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    data[data.index(np.array(LABELS, "<i8").tobytes())] ^= 1
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(FastnoisyError, match="cannot be read"):
        labels(tmp_path / "a.pt")


def test_how_much_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 100)
    monkeypatch.setattr(read, "MAX_WHOLE", 100)
    for name in ("a.csv", "a.json", "a.npy"):
        (tmp_path / name).write_bytes(b"1\n" * 100)
        with pytest.raises(FastnoisyError, match="at most 0 are read"):
            open_table("labels", tmp_path / name)
    np.savez_compressed(tmp_path / "a.npz", given=np.zeros(10_000, np.int64))
    monkeypatch.setattr(read, "MAX_WHOLE", 10_000)
    with pytest.raises(FastnoisyError, match="unpacks to"):
        open_table("labels", tmp_path / "a.npz")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(FastnoisyError, match="is no file"):
        open_table("labels", tmp_path / "pipe.csv")
