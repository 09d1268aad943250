"""What turns an image file into what an exported network takes: in words and numbers, for other programs to follow."""

from __future__ import annotations

import math
from typing import Any

from fastnoisy.augment import ViewProgram, parse_view
from fastnoisy.data.conversion.encode import Resize
from fastnoisy.training.run import Run

_DECODE = (
    "Decode to 8-bit RGB. Turn the image upright by its EXIF orientation. 16-bit values are scaled to 8 bits, an alpha "
    "channel is dropped, of several frames the first counts."
)
_HOW = "bilinear and antialiased, as Pillow's Image.resize with BILINEAR"
_FILES = {
    "max": "Where the longer side is above {side} pixels, resize the image so that it has {side}, keeping its shape",
    "shorter": (
        "Resize the image so that its shorter side has {side} pixels, keeping its shape, or where the longer one would "
        "then have more than {double}, so that that one has {double}; never enlarge it"
    ),
    "square": "Resize the image to {side} x {side} pixels, whatever its shape",
}


def input_size(run: Run) -> tuple[int, int]:
    """Height and width of the images that the network takes."""
    return _program(run).output_size(tuple(run.metadata("canvas")))


def describe(run: Run) -> dict[str, Any]:
    """What preprocessing.json holds: the network's input and output, and the steps from a file to the input."""
    height, width = input_size(run)
    names = run.class_names
    return {
        "format": "fastnoisy-preprocessing-1",
        "input": {
            "name": "images",
            "dtype": "float32",
            "shape": ["batch", 3, height, width],
            "axes": ["image", "channel", "row from the top", "column from the left"],
            "channels": ["red", "green", "blue"],
        },
        "output": {
            "name": "logits",
            "dtype": "float32",
            "shape": ["batch", len(names)],
            "meaning": "a softmax over the last axis gives the probabilities of the classes, in the order below",
        },
        "classes": names,
        "steps": _steps(run),
    }


def _steps(run: Run) -> list[dict[str, Any]]:
    program, canvas = _program(run), tuple(run.metadata("canvas"))
    steps: list[dict[str, Any]] = [{"step": "decode", "words": _DECODE}]
    resize = Resize.parse(run.metadata("resize"))
    if resize.kind != "none":
        words = _FILES[resize.kind].format(side=resize.side, double=2 * resize.side)
        steps.append({"step": "resize_file", "rule": str(resize), **_INTERPOLATION, "words": f"{words}: {_HOW}."})
    if not any("size" in call.keywords for call in program.steps) and resize.kind != "square":
        words = f"Lay the image at the top left of a black canvas of {canvas[0]} rows and {canvas[1]} columns."
        steps.append({"step": "pad", "height": canvas[0], "width": canvas[1], "words": words})
    for call in program.steps:
        if call.kind.stage == "normalize":
            mean, std = (call.keywords[name] or run.metadata(name) for name in ("mean", "std"))
            words = "Divide the values, 0 to 255, by 255, subtract the mean of each channel, divide by its std."
            numbers = {"divide_by": 255, "mean": list(mean), "std": list(std)}
            steps.append({"step": "normalize", **numbers, "words": words})
        else:
            how = _INTERPOLATION if call.name in ("resize", "resize_shorter") else {}
            steps.append({"step": call.name, **call.keywords, **how, "words": _words(call.name, call.kind.doc)})
    return steps


_INTERPOLATION = {"interpolation": "bilinear", "antialias": True}
_WORDS = {
    "resize": f"Resize the image to size x size pixels, whatever its shape: {_HOW}.",
    "resize_shorter": f"Resize the image so that its shorter side has size pixels, keeping its shape: {_HOW}.",
    "center_crop": "Cut size x size pixels from the middle, black where the image is smaller.",
}


def _words(name: str, doc: str) -> str:
    return _WORDS.get(name, " ".join(doc.split()))


def _program(run: Run) -> ViewProgram:
    return parse_view(run.metadata("view"))


def timm_data_config(run: Run) -> tuple[dict[str, Any], str]:
    """The nearest that timm's own transform comes to it, as its `pretrained_cfg` says it, and how they differ."""
    program, resize = _program(run), Resize.parse(run.metadata("resize"))
    height, width = input_size(run)
    made = [call for call in program.steps if call.kind.stage == "uint8"]
    mode, share, exact = "squash", 1.0, not made and resize.kind == "square"
    if [call.name for call in made] == ["resize"]:
        exact = True
    if [call.name for call in made] == ["resize_shorter", "center_crop"]:
        (outer, inner), exact = (call.keywords["size"] for call in made), True
        if outer >= inner:
            mode, share = "center", _crop_share(outer, inner)
        else:
            exact = False
    normalize = next(call for call in program.steps if call.kind.stage == "normalize")
    mean, std = (list(normalize.keywords[name] or run.metadata(name)) for name in ("mean", "std"))
    found = {
        "input_size": [3, height, width],
        "interpolation": "bilinear",
        "crop_pct": share,
        "crop_mode": mode,
        "mean": mean,
        "std": std,
    }
    if not exact:
        return found, "By its own transform timm prepares images otherwise than the run did: follow preprocessing.json."
    if not made or resize.kind == "none":
        return found, ""
    return found, "By its own transform timm resizes once where the run resized twice, so pixels differ a little."


def _crop_share(outer: int, inner: int) -> float:
    """The `crop_pct` of which timm makes exactly this outer size, floor(inner / crop_pct)."""
    share = inner / outer
    while math.floor(inner / share) < outer:
        share = math.nextafter(share, 0)
    return share
