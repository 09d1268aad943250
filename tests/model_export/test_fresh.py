"""Exported files in fresh environments without fastnoisy: timm, and onnxruntime, on 500 images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastnoisy
from fastnoisy.data.store import open_store

COUNT = 500
FOLLOW = Path(__file__).with_name("follow.py")


@pytest.mark.slow
def test_timm_and_onnxruntime_agree_without_fastnoisy(tmp_path: Path) -> None:
    """Each environment is new and installs its package. torch, which is gigabytes, timm's takes from this one, by a
    path along which the editable fastnoisy is not found; the script makes sure that it is not.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    fastnoisy.convert("digits", tmp_path / "store", workers=1)
    # in float32, as the files compute; `predict` of a run in bf16 rounds more than they do
    words = ("model=test_resnet", "epochs=5", "device=cpu", "threads=1", "amp=off")
    run = fastnoisy.train(
        "digits-ce", *words, data=tmp_path / "store", out=tmp_path / "run", progress=lambda event: None
    )
    images = tmp_path / "images"
    images.mkdir()
    with open_store(tmp_path / "store") as store:
        for row in range(COUNT):
            Image.fromarray(store.split("test").read_image(row)).save(images / f"{row:04d}.png")
    found = list(run.predict(images, top=10))
    expected = np.array([[dict(each.top)[name] for name in run.class_names] for each in found])
    assert expected.shape == (COUNT, 10)
    for kind, install in (("timm", ("--no-deps", "timm")), ("onnx", ("onnxruntime", "Pillow"))):
        export, python = tmp_path / kind, tmp_path / f"venv-{kind}" / "bin" / "python"
        fastnoisy.export(run, kind, export)
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *install], check=True)
        if kind == "timm":
            own = subprocess.run(
                [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            (Path(own.stdout.strip()) / "torch.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
        out = tmp_path / f"{kind}.npy"
        subprocess.run([python, "-I", FOLLOW, kind, export, images, out], check=True, cwd=tmp_path)
        logits = np.load(out).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        difference = np.abs(shares - expected).max()
        print(f"{kind}: largest difference of a probability on {COUNT} images: {difference:.2g}")
        assert difference < 1e-5
        assert (shares.argmax(axis=1) == expected.argmax(axis=1)).all()
