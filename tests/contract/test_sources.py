"""What every source promises; runs on each kind of fastnoisy/data/sources, without a list to edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastnoisy.data.conversion.convert import ConvertOptions, convert
from fastnoisy.data.conversion.encode import upright_size
from fastnoisy.data.sources import base
from fastnoisy.data.store import open_store
from fastnoisy.data.store.verify import verify
from fastnoisy.errors import FastnoisyError

KINDS = base.kinds()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(kind: str) -> base.Kind:
    return base.find(kind)


@pytest.fixture
def example(found: base.Kind, tmp_path: Path) -> str:
    return str(found.make_example(tmp_path / "example"))


def test_there_are_sources() -> None:
    assert {"digits", "cifar10", "folder"} <= set(KINDS)


def test_a_source_describes_itself(kind: str, found: base.Kind) -> None:
    assert 20 < len(found.summary) <= 120
    assert found.summary.endswith(".")
    assert found.layout
    assert kind in base.describe()


def test_the_example_is_recognised_as_its_kind(kind: str, example: str) -> None:
    assert base.resolve(example)[0] == kind
    if Path(example).exists():
        assert base.resolve(f"{kind}:{example}") == (kind, Path(example))


def test_a_source_is_well_formed(example: str) -> None:
    source, name = base.open_source(example)
    assert name
    assert len(set(source.class_names)) == len(source.class_names) >= 2
    assert all(class_name == class_name.strip() != "" for class_name in source.class_names)
    names = [split.name for split in source.splits]
    assert names == [name for name in base.SPLIT_NAMES if name in names]
    assert "train" in names or names == ["val"]  # nobody trains on ImageNet's validation images
    assert all(note == " ".join(note.split()) != "" for note in source.notes)  # one line each
    for split in source.splits:
        assert len(split) > 0
        assert len(set(split.paths)) == len(split)
        for labels in (split.given_labels, split.clean_labels):
            if labels is not None:
                assert labels.dtype == np.int64
                assert labels.shape == (len(split),)
                assert labels.min() >= 0
                assert labels.max() < len(source.class_names)


def test_every_image_of_the_example_can_be_read(example: str) -> None:
    source, _ = base.open_source(example)
    for split in source.splits:
        for i in range(min(len(split), 50)):
            content = split.read(i)
            if isinstance(content, np.ndarray):
                assert content.dtype == np.uint8
                assert content.ndim == 3
                assert content.shape[2] == 3
            size = upright_size(content)
            assert size is not None
            assert source.fixed_size in (None, size)


def test_opening_twice_gives_the_same(example: str) -> None:
    (first, _), (second, _) = base.open_source(example), base.open_source(example)
    assert first.class_names == second.class_names
    for one, other in zip(first.splits, second.splits, strict=True):
        assert (one.name, list(one.paths)) == (other.name, list(other.paths))
        assert np.array_equal(one.given_labels, other.given_labels)
        assert np.array_equal(one.read(0), other.read(0))  # arrays, or the same bytes


def test_the_example_becomes_a_sound_store(example: str, tmp_path: Path) -> None:
    source, name = base.open_source(example)
    summary = convert(example, tmp_path / "out", options=ConvertOptions())
    assert summary.source == name
    assert verify(tmp_path / "out") == []
    with open_store(tmp_path / "out") as store:
        assert list(store.splits) == [split.name for split in source.splits]
        assert store.class_names == source.class_names
        for split in source.splits:
            stored = store.split(split.name)
            assert stored.sources == list(split.paths)
            assert np.array_equal(stored.given_labels, split.given_labels)
            assert (stored.clean_labels is None) == (split.clean_labels is None)


def test_selecting_rows_keeps_images_and_labels_together(example: str) -> None:
    split = base.open_source(example)[0].splits[0]
    part = split.select("val", np.array([2, 0]))
    assert part.name == "val"
    assert list(part.paths) == [split.paths[2], split.paths[0]]
    assert part.given_labels.tolist() == split.given_labels[[2, 0]].tolist()
    assert np.array_equal(part.read(0), split.read(2))


def test_data_of_another_layout_are_refused_with_what_is_expected(kind: str, found: base.Kind, tmp_path: Path) -> None:
    if not found.needs_path:
        with pytest.raises(FastnoisyError, match="takes no path"):
            base.open_source(f"{kind}:{tmp_path}")
        return
    with pytest.raises(FastnoisyError, match="needs a path"):
        found.open(None)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not found.recognises(empty)
    text = tmp_path / "notes.txt"
    text.write_text("no data at all")
    for path in (empty, text):
        with pytest.raises(FastnoisyError) as caught:
            base.open_source(f"{kind}:{path}")
        assert str(path) in caught.value.message
        assert caught.value.remedy
