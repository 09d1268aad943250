"""What is exported is what `predict` uses, and loads by timm, torch and onnxruntime alone."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import timm
import torch

import fastnoisy
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods import ce
from fastnoisy.model_export import formats

Trained = Callable[..., fastnoisy.Run]
PIXELS = 2e-2  # of a probability: Pillow's resize and the view's differ by a level here and there
WRAPPED = ("alasca", "own", "method.base=co-teaching", "method.base.noise_rate=0.2")


def probabilities(run: fastnoisy.Run, photos: Path) -> tuple[list[Path], np.ndarray]:
    """Of each photograph and class, in the order of the classes, by `predict`."""
    found = list(run.predict(photos, top=100))
    rows = [[dict(each.top)[name] for name in run.class_names] for each in found]
    return [each.path for each in found if each.path], np.array(rows)


def inputs(export: Path, paths: list[Path], follow: ModuleType) -> np.ndarray:
    description = json.loads((export / "preprocessing.json").read_text())
    return np.stack([follow.prepare(description, path) for path in paths])


def softmax(logits: Any) -> np.ndarray:
    return torch.as_tensor(logits).detach().double().softmax(dim=1).numpy()


def snippet(export: Path) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", (export / "README.md").read_text(), re.DOTALL)
    return str(found)


def test_timm_loads_the_file_as_it_is(
    trained: Trained, photos: Path, tmp_path: Path, follow: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = trained("ce", "timm"), tmp_path / "new" / "exported"
    done = fastnoisy.export(run, "timm", out)
    assert done.files == ["README.md", "classes.txt", "config.json", "model.safetensors", "preprocessing.json"]
    assert done.difference == 0
    assert (done.predictor, done.reported) == ("main", "main")
    assert sorted(path.name for path in out.iterdir()) == done.files
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o666 & ~_umask()}
    monkeypatch.chdir(out)
    space: dict[str, Any] = {}
    exec(compile(snippet(out), "README.md", "exec"), space)
    model = space["model"]
    weights = run.method("cpu").primary_network().backbone.model.state_dict()
    loaded = model.state_dict()
    assert loaded.keys() == timm.create_model("test_resnet", num_classes=3).state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    paths, expected = probabilities(run, photos)
    assert np.abs(softmax(model(torch.from_numpy(inputs(out, paths, follow)))) - expected).max() < PIXELS
    assert (out / "classes.txt").read_text().split() == ["a", "b", "c"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_config_json_is_timms(trained: Trained, tmp_path: Path) -> None:
    fastnoisy.export(trained("ce", "timm").path, "timm", tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    plain = timm.create_model(
        "test_resnet", num_classes=3, checkpoint_path=str(tmp_path / "out" / "model.safetensors")
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), plain(images))
    data = timm.data.resolve_data_config(model=model)
    assert tuple(data["input_size"]) == (3, 32, 32)
    assert tuple(data["mean"]) == (0.485, 0.456, 0.406)
    assert (data["interpolation"], data["crop_pct"], data["crop_mode"]) == ("bilinear", 1.0, "squash")


def test_networks_bound_to_a_size_keep_it(photo_store: Path, tmp_path: Path) -> None:
    words = ("model=test_vit(img_size=32)", "views.size=32", "epochs=1", "batch_size=8", "device=cpu")
    run = fastnoisy.train("folder-ce", *words, data=photo_store, out=tmp_path / "run", progress=lambda event: None)
    assert fastnoisy.export(run, "timm", tmp_path / "out").difference == 0
    assert "img_size=32" in snippet(tmp_path / "out")
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert fastnoisy.export(run, "torch", tmp_path / "program").difference == 0


@pytest.mark.parametrize(
    ("words", "what", "predictor"),
    [
        (("nrd", "own"), "the main classifier of the network", "student"),
        (("alasca", "timm"), "main classifier and the deepest sub-classifier", "ensemble"),
        (("co-teaching", "own", "method.noise_rate=0.2"), "the mean of the logits of 2 networks", "both"),
        (WRAPPED, "deepest sub-classifier, over 2 networks", "ensemble"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_torch_loads_what_predict_uses(
    words: tuple[str, ...],
    what: str,
    predictor: str,
    trained: Trained,
    photos: Path,
    tmp_path: Path,
    follow: ModuleType,
) -> None:
    run, out = trained(*words), tmp_path / "out"
    done = fastnoisy.export(run, "torch", out)
    assert what in done.what
    assert done.predictor == done.reported == predictor
    assert done.difference is not None
    assert done.difference < 1e-6
    model = torch.export.load(out / "model.pt2").module()
    paths, expected = probabilities(run, photos)
    images = torch.from_numpy(inputs(out, paths, follow))
    assert np.abs(softmax(model(images)) - expected).max() < PIXELS
    assert model(images[:1]).shape == (1, 3)
    used = sum(tensor.numel() for tensor in torch.export.load(out / "model.pt2").state_dict.values())
    assert used < 1.5 * sum(t.numel() for n in run.method("cpu").networks for t in n.state_dict().values())


def test_timm_gets_one_network_and_a_line_says_so(trained: Trained, tmp_path: Path) -> None:
    run, said = trained("alasca", "timm"), []
    done = fastnoisy.export(run, "timm", tmp_path / "out", say=said.append)
    assert (done.predictor, done.reported, done.difference) == ("main", "ensemble", 0)
    assert run.final is not None
    test = run.final["eval"]["test"]
    shares = f"main {100 * test['main']['accuracy']:.2f} %, ensemble {100 * test['ensemble']['accuracy']:.2f} %"
    assert f"the run reports ensemble, which is more than the one network exported: on test {shares}" in said[-1]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `main`: this file |" in card
    assert "| `ensemble`: the run, not this file |" in card


def test_onnxruntime_gives_what_predict_gives(
    trained: Trained, photos: Path, tmp_path: Path, follow: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run, out = trained(*WRAPPED), tmp_path / "out"
    done = fastnoisy.export(run, "onnx", out)
    assert done.difference is not None
    assert done.difference < 1e-5
    model = onnx.load(out / "model.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", formats.OPSET)]
    assert f"ONNX opset {formats.OPSET}" in (out / "README.md").read_text()
    paths, expected = probabilities(run, photos)
    monkeypatch.chdir(out)
    for count in (1, len(paths)):
        space: dict[str, Any] = {"images": inputs(out, paths[:count], follow)}
        exec(compile(snippet(out), "README.md", "exec"), space)
        assert np.abs(softmax(space["logits"]) - expected[:count]).max() < PIXELS


def test_very_large_weights_lie_beside_the_onnx_file(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(formats, "_MOST_IN_ONE_FILE", 0)
    done = fastnoisy.export(trained("ce", "timm"), "onnx", tmp_path / "out")
    assert "model.onnx.data" in done.files
    (tmp_path / "out").rename(tmp_path / "moved")
    session = onnxruntime.InferenceSession(tmp_path / "moved" / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": np.zeros((2, 3, 32, 32), np.float32)})[0].shape == (2, 3)


def test_without_the_extra_a_line_says_how_to_get_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(FastnoisyError, match=r"needs onnxscript.*pip install 'fastnoisy\[onnx\]'"):
        fastnoisy.export(trained("ce", "timm"), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_predicts_in_its_own_way_is_exported_whole(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("ce", "own")
    monkeypatch.setattr(ce.METHOD, "predictors", lambda self, outputs, images: {"own": 2 * outputs[0].logits})
    done = fastnoisy.export(run, "torch", tmp_path / "out")
    assert (done.what, done.predictor) == ("all that the method predicts with", "own")
    assert done.difference == 0


def test_in_double_precision_the_file_is_float32(photo_store: Path, tmp_path: Path) -> None:
    words = ("model=test_resnet", "views.size=32", "epochs=1", "batch_size=8", "device=cpu", "dtype=float64")
    run = fastnoisy.train("folder-ce", *words, data=photo_store, out=tmp_path / "run", progress=lambda event: None)
    done = fastnoisy.export(run, "timm", tmp_path / "out")
    assert done.difference is not None
    assert 0 < done.difference < 1e-5
