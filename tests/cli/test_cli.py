"""The command line end to end, in this process: the main job, help, and wrong input."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = ["model.width=4", "epochs=2", "threads=1", "data.subset=300", "eval_every=1"]


Call = Callable[..., tuple[int, str, str]]


def folder_of_images(root: Path, classes: str = "ab", count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 120, (40 + i, 50, 3), dtype=np.uint8) + np.uint8(100 * number)
            Image.fromarray(pixels).save(root / name / f"{i}.jpg")
    return root


def test_a_folder_of_ones_own_from_convert_to_predictions(call: Call, tmp_path: Path) -> None:
    source = folder_of_images(tmp_path / "photos")
    (source / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    code, _, err = call("convert", source, tmp_path / "store", "--test-fraction", 0.25, "--max-rejected", 0.2)
    assert code == 0, err
    words = ["model=preact_small(width=4)", "epochs=2", "batch_size=8", "noise=symmetric:0.3", "threads=1"]
    code, _, err = call("train", "folder-nrd", *words, "--data", tmp_path / "store", "--out", tmp_path / "run")
    assert code == 0, err
    assert "epoch 2/2" in err
    assert "waiting" in err
    assert "ETA" in err
    code, out, err = call("evaluate", tmp_path / "run")
    assert code == 0, err
    assert "student" in out
    assert "teacher" in out
    assert "per class" in out
    code, out, err = call("predict", tmp_path / "run", source)
    assert code == 0, err
    assert len(out.splitlines()) == 25
    assert out.startswith("path,class,probability")
    assert "skipped" in err
    assert "broken.jpg" in err


def test_train_and_resume_say_what_to_do(call: Call, store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = call("train", "digits-ce", *TINY, "--data", store, "--out", run)
    assert code == 0, err
    for words in ("checkpoints", "epoch 1/2", "issues.csv", "labels wrong"):
        assert words in err, words
    code, _, err = call("train", "digits-ce", *TINY, "--data", store, "--out", run)
    assert code == 2
    assert f"--resume {run}" in err
    code, _, err = call("train", "--resume", run, "epochs=3")
    assert code == 0
    assert "epoch 3/3" in err


@pytest.mark.parametrize("command", ["", "convert", "train", "evaluate", "predict"])
def test_help_ends_with_examples(command: str, call: Call) -> None:
    code, out, _ = call(*([command] if command else []), "--help")
    assert code == 0
    assert "Examples:" in out
    assert "  fastnoisy " in out.split("Examples:")[1]


def _train(store: Path, tmp_path: Path, *words: str) -> list[object]:
    return ["train", "digits-nrd", *TINY, *words, "--data", store, "--out", tmp_path / "run"]


WRONG: dict[str, tuple[Callable[[Path, Path], list[object]], str]] = {}


def wrong(*parts: str) -> Callable[[Callable[[Path, Path], list[object]]], Callable[[Path, Path], list[object]]]:
    def register(make: Callable[[Path, Path], list[object]]) -> Callable[[Path, Path], list[object]]:
        WRONG[make.__name__] = (make, "|".join(parts))
        return make

    return register


@wrong("does not exist", "fastnoisy convert")
def missing_store(store: Path, tmp: Path) -> list[object]:
    return _train(tmp / "nothing", tmp)


@wrong("does not exist", "nothing.npy")
def missing_file(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, f"noise=file:{tmp / 'nothing.npy'}")


@wrong("did you mean optim.lr", "known:")
def bad_key(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "optim.lrr=0.1")


@wrong("epochs", "integer", "'ten'")
def wrong_type(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "epochs=ten")


@wrong("unknown recipe 'digits-ndr'", "did you mean digits-nrd", "known:")
def unknown_method(store: Path, tmp: Path) -> list[object]:
    return ["train", "digits-ndr", "--data", store]


@wrong("unknown method 'alaska'", "did you mean alasca")
def unknown_method_override(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "method=alaska")


@wrong("which is no class", "numbers from 0 to 9")
def labels_out_of_range(store: Path, tmp: Path) -> list[object]:
    np.save(tmp / "labels.npy", np.full(600, 10))
    return _train(store, tmp, f"noise=file:{tmp / 'labels.npy'}")


@wrong("1.5", "between 0 and 1")
def noise_rate(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "noise=symmetric:1.5")


@wrong("cannot be written to", "--out")
def unwritable_folder(store: Path, tmp: Path) -> list[object]:
    return ["train", "digits-nrd", *TINY, "--data", store, "--out", "/proc/fastnoisy/run"]


@wrong("file, not a folder|cannot be written")
def run_folder_is_a_file(store: Path, tmp: Path) -> list[object]:
    (tmp / "run").write_text("x")
    return _train(store, tmp)


@wrong("empty|no files|no image|holds no")
def empty_data_set(store: Path, tmp: Path) -> list[object]:
    (tmp / "photos" / "a").mkdir(parents=True)
    return ["convert", f"folder:{tmp / 'photos'}", tmp / "out"]


@wrong("pickle")
def corrupt_pickle(store: Path, tmp: Path) -> list[object]:
    folder = tmp / "cifar-10-batches-py"
    folder.mkdir()
    content = pickle.dumps({b"data": np.zeros((20, 3072), np.uint8), b"labels": [0] * 20}, protocol=2)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(content[: len(content) // 2])
    return ["convert", f"cifar10:{tmp}", tmp / "out"]


@wrong("classes")
def wrong_number_of_classes(store: Path, tmp: Path) -> list[object]:
    from fastnoisy.training import loop, setup

    if not (tmp / "run").exists():
        loop.start(setup.resolve("digits-ce", TINY, str(store)), tmp / "run")
    folder_of_images(tmp / "photos", "abc", 2)
    from fastnoisy.data.conversion.convert import ConvertOptions, convert

    convert(f"folder:{tmp / 'photos'}", tmp / "three", options=ConvertOptions(resize="square=16"), progress=None)
    return ["evaluate", tmp / "run", "--data", tmp / "three", "--split", "train"]


@wrong("damaged", "convert the source again")
def truncated_store(store: Path, tmp: Path) -> list[object]:
    copy = tmp / "copy"
    shutil.copytree(store, copy)
    path = copy / "train.beton"
    path.write_bytes(path.read_bytes()[:-5])
    return _train(copy, tmp)


@wrong("exists")
def store_exists(store: Path, tmp: Path) -> list[object]:
    return ["convert", "digits", store]


@wrong("holds no run")
def no_run(store: Path, tmp: Path) -> list[object]:
    return ["predict", tmp, store]


@wrong("unknown command 'trian'", "did you mean train")
def unknown_command(store: Path, tmp: Path) -> list[object]:
    return ["trian"]


@wrong("sees no GPU", "device=cpu")
def no_gpu(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "device=cuda")


@wrong("method=3", "known:")
def method_is_a_number(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "method=3")


@wrong("suite")
def suite_is_a_list(store: Path, tmp: Path) -> list[object]:
    return ["train", "cifar10-nrd", "suite=[1]", "--data", store]


@wrong("names no method")
def base_without_a_name(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "method=alasca", "method.base.ema_decay=0.9")


@wrong("method.stages")
def no_stages(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "method=alasca(stages=[])")


@wrong("device", "cuda:NUMBER")
def wrong_device(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "device=cpu:abc")


@wrong("is a folder")
def recipe_is_a_folder(store: Path, tmp: Path) -> list[object]:
    return ["train", f"{tmp}/", "--data", store]


@wrong("cannot be read")
def truncated_labels(store: Path, tmp: Path) -> list[object]:
    np.savez(tmp / "labels.npz", given=np.zeros(600, np.int64))
    (tmp / "labels.npz").write_bytes((tmp / "labels.npz").read_bytes()[:200])
    return _train(store, tmp, f"noise=file:{tmp / 'labels.npz'}")


@wrong("did you mean test")
def unknown_test_split(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, "data.test_split=tset")


@wrong("does not exist")
def missing_evaluation_set(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, f"eval.other={tmp / 'nothing'}")


@wrong("did you mean test")
def missing_evaluation_split(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, f"eval.other={store}/tset")


@wrong("taken by the run's own data")
def evaluation_set_with_a_taken_name(store: Path, tmp: Path) -> list[object]:
    return _train(store, tmp, f"eval.test={store}")


@pytest.mark.parametrize("case", list(WRONG))
def test_wrong_input_gives_one_clear_line_and_exit_code_2(case: str, call: Call, store: Path, tmp_path: Path) -> None:
    import torch

    if case == "no_gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    make, parts = WRONG[case]
    code, _, err = call(*make(store, tmp_path))
    assert code == 2, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert err.rstrip().splitlines()[-1] == lines[0], "the error is the last line"
    for part in parts.split("|") if case not in ("empty_data_set", "run_folder_is_a_file") else ():
        assert part in lines[0], (part, lines[0])
    if case in ("empty_data_set", "run_folder_is_a_file"):
        assert any(part in lines[0] for part in parts.split("|")), lines[0]
    assert not (tmp_path / "run" / "config.toml").exists() or case == "wrong_number_of_classes", "nothing half-written"
    assert not (tmp_path / "out").exists()
