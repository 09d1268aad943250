"""Label files: every form, and what is said about those that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError

LABELS = [2, 0, 1, 1]


def test_label_files(tmp_path: Path) -> None:
    labels = np.array(LABELS)
    np.save(tmp_path / "a.npy", labels.astype(np.uint8))
    np.savez(tmp_path / "b.npz", given=labels)
    (tmp_path / "c.csv").write_text("index,label\n0,2\n1,0\n2,1\n3,1\n")
    (tmp_path / "d.txt").write_text("2\n0\n1\n1\n")
    for name in ("a.npy", "b.npz", "c.csv", "d.txt"):
        noisy = noise.from_file(tmp_path / name, 4, 3)
        assert noisy.dtype == np.int64
        assert noisy.tolist() == LABELS
    with pytest.raises(FastnoisyError, match="does not exist"):
        noise.from_file(tmp_path / "none.npy", 4, 3)
    with pytest.raises(FastnoisyError, match="holds 4 labels, the training split has 5"):
        noise.from_file(tmp_path / "a.npy", 5, 3)
    with pytest.raises(FastnoisyError, match="out of range: row 0 is 2, allowed are 0 to 1"):
        noise.from_file(tmp_path / "a.npy", 4, 2)
    np.save(tmp_path / "o.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(FastnoisyError, match="cannot be read"):
        noise.from_file(tmp_path / "o.npy", 2, 2)


@pytest.mark.parametrize(
    "text",
    [
        "\ufefflabel\r\n2\r\n0\r\n1\r\n1\r\n",  # as spreadsheets write it
        '"index","label"\n"3","1"\n"0","2"\n"2","1"\n"1","0"\n',
        'path,given_label\n"a, b.png",2\n"c ""d"".png",0\ne.png,1\nf.png,1\n',
        "label , index\n 1 , 3 \n\n2, 0\n 1, 2\n0,1\n\n",
        'label,note\n2,"two\nlines"\n0,\n1,\n1,\n',
        "2\n0\n\n1\n+1",
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".txt"])
def test_text_files_as_people_write_them(tmp_path: Path, text: str, ending: str) -> None:
    path = tmp_path / f"labels{ending}"
    path.write_bytes(text.encode())
    assert noise.from_file(path, 4, 3).tolist() == LABELS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two\n", "line 1: 'two' is not a whole number"),
        ("label\n2\n0\n1.0\n1\n", r"line 4: '1\.0' is not a whole number"),
        ("label\n2\n\n\n0\n1_0\n1\n", "line 6: '1_0' is not a whole number"),
        ("label\n2\n0\n1\n" + "9" * 5000 + "\n", "line 5: '9+' is not a whole number"),
        ("label,path\n2,a\n0\n1,c\n1,d\n", "line 3: 1 cells under 2 columns"),
        ("label,path\n,a\n", "line 2: '' is not a whole number"),
        ("class,path\n2,a\n", "none is called label or given_label: line 1 is 'class,path'"),
        ("2,0,1,1\n", "several columns"),
        ("index,label\n0,2\n1,0\n1,1\n3,1\n", "line 4: index 1 is on line 3 already"),
        ("index,label\n1,2\n2,0\n3,1\n4,1\n", "line 5: index 4 with 4 labels"),
        ("index,label\n-1,2\n2,0\n3,1\n4,1\n", "line 2: index -1"),
        ("index,label\nx,2\n", "line 2: 'x' is not a whole number"),
        ("label\n2\n0\n1\n", "holds 3 labels, the training split has 4 rows"),
        ("", "holds 0 labels"),
        ("label\n2\n0\n1\n3\n", "out of range: row 3 is 3"),
        ("label\n2\n0\n1\n-1\n", "out of range: row 3 is -1"),
    ],
)
def test_text_files_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(FastnoisyError, match=words) as caught:
        noise.from_file(path, 4, 3)
    assert str(path) in caught.value.message


def test_names_stand_for_labels_as_in_the_issues_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "issues.csv"
    path.write_text(
        "index,path,given_label,predicted_label,label_score,is_label_issue\n2,c.png,dog,cat,0.1,True\n"
        '0,a.png,"owl, snowy",cat,0.4,True\n1,b.png,cat,cat,0.9,False\n3,d.png,dog,dog,0.9,False\n'
    )
    assert noise.from_file(path, 4, 3, ["cat", "dog", "owl, snowy"]).tolist() == LABELS
    with pytest.raises(FastnoisyError, match="line 2: 'dog' is not a whole number"):
        noise.from_file(path, 4, 3, ["cat", "dog", "owl"])
    with pytest.raises(FastnoisyError, match="line 2: 'dog' is not a whole number"):
        noise.from_file(path, 4, 3)
    path.write_text("given_label\n2\n0\n1\n1\n")  # numbers, beside names and as names
    assert noise.from_file(path, 4, 3, ["cat", "dog", "owl"]).tolist() == LABELS
    assert noise.from_file(path, 4, 3, ["1", "2", "0"]).tolist() == [1, 2, 0, 0]
    path.write_text("label\n2\n0\n1\n1\n")
    assert noise.from_file(path, 4, 3, ["1", "2", "0"]).tolist() == LABELS


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.zeros(3, np.int64))
    with pytest.raises(FastnoisyError, match="holds no array 'given', only labels"):
        noise.from_file(tmp_path / "a.npz", 3, 3)
    np.savez(tmp_path / "b.npz", given=np.zeros(3, np.int64))
    data = (tmp_path / "b.npz").read_bytes()
    for keep in (0, 10, len(data) // 2, len(data) - 10):
        (tmp_path / "b.npz").write_bytes(data[:keep])
        with pytest.raises(FastnoisyError, match="cannot be read"):
            noise.from_file(tmp_path / "b.npz", 3, 3)
    for name, array in (("f.npy", np.zeros(3)), ("g.npy", np.zeros((3, 1), np.int64))):
        np.save(tmp_path / name, array)
        with pytest.raises(FastnoisyError, match="must hold a vector of integers"):
            noise.from_file(tmp_path / name, 3, 3)
    os.truncate(tmp_path / "g.npy", 130)
    (tmp_path / "h.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1<<60,)}\n"
    )
    (tmp_path / "i.csv").write_bytes(b"label\n\xff\xfe\n")
    (tmp_path / "j.csv").write_bytes(b'label\n"2\n')  # a quote that is never closed
    (tmp_path / "k.txt").write_bytes(b"\x00" * 200_000)
    for name in ("g.npy", "h.npy", "i.csv", "j.csv", "k.txt"):
        with pytest.raises(FastnoisyError) as caught:
            noise.from_file(tmp_path / name, 3, 3)
        assert name in caught.value.message
    (tmp_path / "l.pkl").touch()
    with pytest.raises(FastnoisyError, match=r"unknown ending '\.pkl', known: \.npy \.npz \.csv \.txt"):
        noise.from_file(tmp_path / "l.pkl", 3, 3)
    with pytest.raises(FastnoisyError, match="does not exist"):
        noise.from_file(tmp_path, 3, 3)
