"""What somebody without fastnoisy does with an export: follow preprocessing.json, ask the network.

    python follow.py timm|onnx EXPORT IMAGES OUT.npy

Writes the logits of all images of a folder, by name. Needs numpy, Pillow, and timm or onnxruntime.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def prepare(description: dict[str, Any], path: Path) -> np.ndarray:
    """A file as the network's input, float32 (3, h, w), by the numbers of preprocessing.json."""
    image, values = Image.new("RGB", (1, 1)), np.zeros((0, 0, 3), np.float32)
    for step in description["steps"]:
        match step["step"]:
            case "decode":
                with Image.open(path) as file:
                    image = ImageOps.exif_transpose(file).convert("RGB")
            case "resize_file":
                image = resized(image, step["rule"])
            case "resize":
                image = image.resize((step["size"], step["size"]), Image.Resampling.BILINEAR)
            case "resize_shorter":
                scale = step["size"] / min(image.size)
                image = image.resize(tuple(int(side * scale) for side in image.size), Image.Resampling.BILINEAR)
            case "center_crop":
                left, top = (round((side - step["size"]) / 2) for side in image.size)
                image = image.crop((left, top, left + step["size"], top + step["size"]))
            case "pad":
                canvas = Image.new("RGB", (step["width"], step["height"]))
                canvas.paste(image)
                image = canvas
            case "normalize":
                values = np.asarray(image, np.float32) / step["divide_by"]
                values = (values - np.float32(step["mean"])) / np.float32(step["std"])
            case other:
                raise SystemExit(f"unknown step {other}")
    return values.transpose(2, 0, 1)


def resized(image: Image.Image, rule: str) -> Image.Image:
    kind, side = rule.split("=")
    width, height = image.size
    if kind == "square":
        size = (int(side), int(side))
    else:
        assert kind == "max"
        scale = min(1.0, int(side) / max(width, height))
        size = (round(width * scale), round(height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def main(kind: str, export: Path, images: Path, out: Path) -> None:
    if importlib.util.find_spec("fastnoisy") is not None:
        raise SystemExit("fastnoisy is here, where it should not be")
    description = json.loads((export / "preprocessing.json").read_text())
    batch = np.stack([prepare(description, path) for path in sorted(images.iterdir())])
    if kind == "timm":
        import timm
        import torch

        config = json.loads((export / "config.json").read_text())
        model = timm.create_model(
            config["architecture"],
            num_classes=config["num_classes"],
            checkpoint_path=str(export / "model.safetensors"),
        )
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(batch)).numpy()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(export / "model.onnx"), providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"images": batch})
    np.save(out, logits)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
