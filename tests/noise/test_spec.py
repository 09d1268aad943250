"""The texts that name a run's noise: parsing, round trips, and what each does to which rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastnoisy import noise
from fastnoisy.errors import FastnoisyError
from fastnoisy.noise import NoiseSpec, cifar

C10, C100, C20 = cifar.CIFAR10_CLASSES, cifar.CIFAR100_CLASSES, cifar.CIFAR100_SUPERCLASSES
LABELS = np.arange(200) % 10
ROWS = np.arange(0, 200, 2)


def apply(
    text: str, names: object = C10, labels: np.ndarray = LABELS, rows: np.ndarray = ROWS, **given: object
) -> np.ndarray:
    return NoiseSpec.parse(text).apply(labels, names, 3, rows, **given)  # type: ignore[arg-type]


# Texts


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "symmetric:0.4",
        "symmetric:0.25:exclude_true",
        "symmetric:1.0:dividemix",
        *(f"asymmetric:0.4:{rule}" for rules in noise.ASYMMETRIC_RULES.values() for rule in rules),
        "asymmetric:0.1",
        "pairflip:0.45",
        "instance:0.4",
        "instance:0.4:cores",
        "instance:0.4:pdn",
        *(f"human:{key}" for key in ("aggre", "worse", "random1", "random2", "random3", "noisy", "noisy_coarse")),
        "human:worse:a/b:c.pt",
        "file:a/b:c.npy",
        "file:/a/b.npy",
    ],
)
def test_a_text_round_trips(text: str) -> None:
    spec = NoiseSpec.parse(text)
    assert str(spec) == text
    assert NoiseSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("human:worst", "human:worse"),
        ("human:worse_label:x.pt", "human:worse:x.pt"),
        ("human:noisy100", "human:noisy"),
        ("human:rand2", "human:random2"),
        ("human:noisy_coarse_label", "human:noisy_coarse"),
        ("symmetric:4e-1", "symmetric:0.4"),
        ("pairflip:1", "pairflip:1.0"),
    ],
)
def test_other_ways_to_write_the_same(text: str, canonical: str) -> None:
    assert str(NoiseSpec.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("symmetric:1.5", "between 0 and 1"),
        ("symmetric:", "between 0 and 1.*Write noise=symmetric:0.4"),
        ("pairflip", "between 0 and 1.*Write noise=pairflip:0.4"),
        ("instance:nan", "between 0 and 1"),
        ("asymmetric:-0.1", "between 0 and 1"),
        ("symetric:0.4", "did you mean symmetric"),
        ("", "unknown noise ''.*known: asymmetric, file, human, instance, none, pairflip, symmetric"),
        ("symmetric:0.4:exclude", "did you mean exclude_true"),
        ("asymmetric:0.4:super", "did you mean superclass.*known: .*index_blocks.*sequential"),
        ("pairflip:0.4:x", "pairflip takes nothing after the rate"),
        ("instance:0.4:core", "did you mean cores"),
        ("human:", "unknown set of human labels ''.*known: aggre"),
        ("human:wrose", "did you mean worse"),
        ("none:0.4", "none takes nothing after it"),
        ("file:", "names no file"),
    ],
)
def test_wrong_texts_say_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(FastnoisyError, match=words):
        NoiseSpec.parse(text)


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(NoiseSpec.parse("file:a.npy").absolute()) == f"file:{tmp_path}/a.npy"
    assert str(NoiseSpec.parse("human:worse:b/../a.pt").absolute()) == f"human:worse:{tmp_path}/a.pt"
    for text in ("human:worse", "symmetric:0.4", "none", "file:/x/y.npy"):
        assert str(NoiseSpec.parse(text).absolute()) == text


def test_only_noise_put_on_labels_implies_that_they_are_clean() -> None:
    texts = ["symmetric:0.4", "asymmetric:0.4", "pairflip:0.4", "instance:0.4", "human:worse", "none", "file:a.npy"]
    assert [NoiseSpec.parse(text).keeps_truth for text in texts] == [True] * 5 + [False] * 2


def test_every_kind_is_listed_with_a_line() -> None:
    kinds = NoiseSpec.kinds()
    names = [form.partition(":")[0] for form in kinds]
    assert names == ["none", "symmetric", "asymmetric", "pairflip", "instance", "human", "file"]
    assert all(line and "\n" not in line for line in kinds.values())
    assert "superclass" in kinds["asymmetric:RATE[:RULE]"]


def test_parsing_imports_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; from fastnoisy.noise import NoiseSpec; NoiseSpec.parse('human:worse'); "
        "assert not {'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# What they do


def images(rows: np.ndarray) -> np.ndarray:
    return np.random.RandomState(0).randint(256, size=(200, 4, 4, 3)).astype(np.uint8)[rows]


@pytest.mark.parametrize(
    "text",
    [
        "symmetric:0.5",
        "symmetric:0.5:exclude_true",
        "symmetric:0.5:dividemix",
        "asymmetric:0.5",
        "asymmetric:0.5:dividemix",
        "pairflip:0.5",
        "instance:0.5",
        "instance:0.5:pdn",
    ],
)
def test_rows_limit_the_noise(text: str) -> None:
    before = LABELS.copy()
    noisy = apply(text, images=images)
    assert noisy.dtype == np.int64
    assert (noisy[1::2] == LABELS[1::2]).all()
    assert (noisy[ROWS] != LABELS[ROWS]).any()
    assert (before == LABELS).all()
    alone = apply(text, labels=LABELS[ROWS], rows=np.arange(100), images=lambda part: images(ROWS[part]))
    assert (alone == noisy[ROWS]).all()


def test_each_text_is_the_function_of_its_name() -> None:
    part = LABELS[ROWS]
    for text, expected in {
        "none": part,
        "symmetric:0.5": noise.symmetric(part, 0.5, 10, 3),
        "symmetric:0.5:exclude_true": noise.symmetric(part, 0.5, 10, 3, exclude_true=True),
        "symmetric:0.5:dividemix": noise.symmetric(part, 0.5, 10, 3, dividemix=True),
        "asymmetric:0.5": noise.asymmetric(part, 0.5, "cifar10", 3, "sequential"),
        "asymmetric:0.5:snapshot": noise.asymmetric(part, 0.5, "cifar10", 3, "snapshot"),
        "pairflip:0.5": noise.pair_flip(part, 0.5, 10, 3),
        "instance:0.5": noise.instance_dependent(images(ROWS), part, 0.5, 10, 3, "cores"),
        "instance:0.5:pdn": noise.instance_dependent(images(ROWS), part, 0.5, 10, 3, "pdn"),
    }.items():
        assert apply(text, images=images)[ROWS].tolist() == expected.tolist(), text
    fine = np.arange(200) % 100
    for text, rule in (("asymmetric:0.5", "superclass"), ("asymmetric:0.5:index_blocks", "index_blocks")):
        noisy = apply(text, C100, fine)
        assert noisy[ROWS].tolist() == noise.asymmetric(fine[ROWS], 0.5, "cifar100", 3, rule).tolist()


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(FastnoisyError, match="the training split are out of range"):
        apply("none", C10[:9])


def test_asymmetric_noise_is_for_the_classes_it_was_made_for() -> None:
    for names in (C20, [f"class {i}" for i in range(10)], C10[::-1]):
        with pytest.raises(FastnoisyError, match=r"this data set has \d+ classes: .*Write noise=pairflip:0.4"):
            apply("asymmetric:0.4", names)
    with pytest.raises(FastnoisyError, match=r"classes of CIFAR-10, whose rules are sequential.*pairflip:0.4"):
        apply("asymmetric:0.4:superclass")
    with pytest.raises(FastnoisyError, match=r"classes of CIFAR-100, whose rules are superclass, index_blocks"):
        apply("asymmetric:0.4:snapshot", C100)


def test_instance_noise_needs_images_of_one_size() -> None:
    with pytest.raises(FastnoisyError, match=r"noise instance:0\.4 needs the images"):
        apply("instance:0.4")
    sizes = iter((4, 5))
    wrong = [
        lambda rows: np.zeros((len(rows), next(sizes), 4, 3), np.uint8),
        lambda rows: [np.zeros((4, 4, 3), np.uint8)] * len(rows),
        lambda rows: np.zeros((len(rows), 4, 4, 3), np.float32),
        lambda rows: np.zeros((len(rows) + 1, 4, 4, 3), np.uint8),
    ]
    for read in wrong:
        with pytest.raises(FastnoisyError, match=r"images of one size.*--resize square=N"):
            apply("instance:0.4", images=read)


def test_images_are_asked_for_by_their_rows_in_small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise.instance, "CHUNK_VALUES", 48 * 8)
    for text in ("instance:0.4", "instance:0.4:pdn"):
        asked: list[np.ndarray] = []

        def read(rows: np.ndarray, asked: list[np.ndarray] = asked) -> np.ndarray:
            asked.append(rows)
            return images(rows)

        apply(text, images=read)
        assert max(map(len, asked)) <= 8
        assert set(np.concatenate(asked)) == set(ROWS)


def test_label_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", 9 - LABELS)
    noisy = apply(f"file:{tmp_path / 'a.npy'}")
    assert (noisy[ROWS] == 9 - LABELS[ROWS]).all()
    assert (noisy[1::2] == LABELS[1::2]).all()
    lines = [f"{row},{C10[9 - LABELS[row]]}" for row in range(199, -1, -1)]
    (tmp_path / "b.csv").write_text("\n".join(["index,given_label", *lines]))
    assert (apply(f"file:{tmp_path / 'b.csv'}") == noisy).all()


# Human labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save({"clean_label": LABELS, "worse_label": 9 - LABELS}, tmp_path / "CIFAR-10_human.pt")
    coarse = (np.arange(200) % 20).tolist()
    fine = {"clean_label": np.arange(200) % 100, "noisy_label": np.arange(200)[::-1] % 100}
    torch.save(
        {**fine, "clean_coarse_label": coarse, "noisy_coarse_label": coarse[::-1]}, tmp_path / "CIFAR-100_human.pt"
    )
    return tmp_path


def test_human_labels_are_found_beside_the_data(folder: Path) -> None:
    noisy = apply("human:worse", folder=folder)
    assert (noisy[ROWS] == 9 - LABELS[ROWS]).all()
    assert (noisy[1::2] == LABELS[1::2]).all()
    fine, coarse = np.arange(200) % 100, np.arange(200) % 20
    assert (apply("human:noisy", C100, fine, folder=str(folder))[ROWS] == fine[::-1][ROWS]).all()
    assert (apply("human:noisy_coarse", C20, coarse, folder=folder)[ROWS] == coarse[::-1][ROWS]).all()


def test_human_labels_of_a_path_serve_other_names_of_the_same_classes(folder: Path) -> None:
    path = folder / "CIFAR-10_human.pt"
    moved = path.rename(folder / "x.pt")
    names = [name.upper() for name in C10]
    assert (apply(f"human:worse:{moved}", names)[ROWS] == 9 - LABELS[ROWS]).all()
    with pytest.raises(FastnoisyError, match=r"of CIFAR-10, and this data set has 10 classes: .*human:worse:PATH"):
        apply("human:worse", names, folder=folder)


def test_a_human_file_that_is_not_there(tmp_path: Path) -> None:
    published = "published at github.com/UCSC-REAL/cifar-10-100n"
    with pytest.raises(
        FastnoisyError, match=f"needs the file CIFAR-10_human.pt. Write noise=human:worse:PATH.*{published}"
    ):
        apply("human:worse")
    with pytest.raises(
        FastnoisyError, match=f"CIFAR-10_human.pt, which is not in {tmp_path}. Put it there, or write noise=h"
    ):
        apply("human:worse", folder=tmp_path)
    for key, names in (("noisy", C100), ("noisy_coarse", C20)):
        with pytest.raises(FastnoisyError, match=r"needs the file CIFAR-100_human\.pt"):
            apply(f"human:{key}", names, folder=tmp_path)


@pytest.mark.parametrize(
    ("key", "names", "words"),
    [
        ("worse", C100, "is of CIFAR-10, and this data set has the classes of CIFAR-100.*Write noise=human:noisy$"),
        ("noisy", C10, "is of CIFAR-100, .* classes of CIFAR-10.*human:aggre or human:worse"),
        ("noisy", C20, "classes of CIFAR-100's 20 super-classes.*human:noisy_coarse"),
        ("noisy_coarse", C100, "is of CIFAR-100's 20 super-classes"),
    ],
)
def test_human_labels_of_another_data_set(folder: Path, key: str, names: tuple[str, ...], words: str) -> None:
    for text in (f"human:{key}", f"human:{key}:{folder / 'CIFAR-10_human.pt'}"):
        with pytest.raises(FastnoisyError, match=words):
            apply(text, names, folder=folder)


def test_human_labels_are_checked_against_the_data(folder: Path) -> None:
    with pytest.raises(FastnoisyError, match="differs from this data set's labels on 200 of 200 rows"):
        apply("human:worse", labels=9 - LABELS, folder=folder)
    torch.save({"clean_label": LABELS, "worse_label": LABELS + 1}, folder / "CIFAR-10_human.pt")
    with pytest.raises(FastnoisyError, match=r"labels in .*CIFAR-10_human.pt are out of range: row 9 is 10"):
        apply("human:worse", folder=folder)
