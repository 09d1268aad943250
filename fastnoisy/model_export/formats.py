"""The three formats: how a network is written, read back as its user will read it, and compared with the run's own.

A format is a function `(exported, folder, run) -> Written`; `FORMATS` has them by name.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fastnoisy import extras
from fastnoisy.errors import FastnoisyError
from fastnoisy.model_export import network, preprocessing
from fastnoisy.model_export.network import Exported
from fastnoisy.training.run import Run

OPSET = 18  # what torch's exporter writes without converting
_NOT_ITS_FAULT = (FastnoisyError, OSError, MemoryError)  # of an exporter, but of the disk or the machine
_MOST_IN_ONE_FILE = 1 << 30  # bytes of weights; an ONNX file ends at 2 GiB


@dataclass(frozen=True)
class Written:
    """What a format wrote.

    Attributes:
        exported: the network.
        difference: the largest between a logit of the file and the run's own of the same images; None: not compared.
        usage: Python that loads it, beside the files.
        notes: what a user of it should know.
    """

    exported: Exported
    difference: float | None
    usage: str
    notes: tuple[str, ...] = ()


def to_timm(run: Run, folder: Path) -> Written:
    """model.safetensors with timm's own keys, and config.json as timm's repositories have it."""
    import timm

    exported, backbone = network.timm_network(run)
    model: Any = backbone.model
    data, note = preprocessing.timm_data_config(run)
    architecture, classes = backbone.name.partition(".")[0], len(run.class_names)
    arguments = {"img_size": run.config.model["img_size"]} if run.config.model.get("img_size") else {}
    save_file(_with_step_counts(model), folder / "model.safetensors", {"format": "pt"})
    kept = {key: model.pretrained_cfg.get(key) for key in ("first_conv", "classifier", "fixed_input_size")}
    config = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": int(model.num_features),
        "label_names": run.class_names,
        **({"model_args": arguments} if arguments else {}),
        "pretrained_cfg": {"num_classes": classes, **data, **{k: v for k, v in kept.items() if v is not None}},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors lets its owner alone read
    words = "".join(f", {name}={value}" for name, value in arguments.items())
    try:
        with _quiet():
            path = str(folder / "model.safetensors")
            loaded = timm.create_model(architecture, num_classes=classes, checkpoint_path=path, **arguments)
    except RuntimeError as error:  # of a network that cannot be built anew from its name and its weights
        raise _cannot(run, "timm", error) from error
    usage = (
        "import timm\n\n"
        f'model = timm.create_model("{architecture}", num_classes={classes}{words}, '
        'checkpoint_path="model.safetensors").eval()\n'
    )
    return Written(exported, _difference(loaded.eval(), exported), usage, (note,) if note else ())


def to_torch(run: Run, folder: Path) -> Written:
    """model.pt2, a program that torch alone loads, for batches of any size."""
    exported = network.reported(run)
    try:
        with _quiet():
            program = torch.export.export(exported.module, (exported.images,), dynamic_shapes=_any_batch())
            torch.export.save(program, folder / "model.pt2")
            loaded = torch.export.load(folder / "model.pt2").module()
    except _NOT_ITS_FAULT:
        raise
    except Exception as error:  # the exporter raises dozens of kinds on networks that it cannot trace
        raise _cannot(run, "torch", error) from error
    usage = (
        "import torch\n\n"
        'model = torch.export.load("model.pt2").module()\n'
        "logits = model(images)  # a float32 tensor, as preprocessing.json says\n"
    )
    return Written(exported, _difference(loaded, exported), usage, (f"Written by torch {torch.__version__}.",))


def to_onnx(run: Run, folder: Path) -> Written:
    """model.onnx, for batches of any size; of very large networks the weights are in model.onnx.data beside it."""
    extras.load("onnx")
    exported = network.reported(run)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in exported.module.state_dict().values())
    try:
        with _quiet():
            torch.onnx.export(
                exported.module,
                (exported.images,),
                folder / "model.onnx",
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=_any_batch(),
                opset_version=OPSET,
                external_data=weights > _MOST_IN_ONE_FILE,
                verbose=False,
            )
    except _NOT_ITS_FAULT:
        raise
    except Exception as error:  # as above
        raise _cannot(run, "ONNX", error) from error
    difference = _onnx_difference(folder / "model.onnx", exported)
    notes = [f"ONNX opset {OPSET}, written by torch {torch.__version__}."]
    if difference is None:
        notes.append("Not compared with the run: onnxruntime was not installed.")
    usage = (
        "import onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])\n'
        '(logits,) = session.run(["logits"], {"images": images})  # a float32 array, as preprocessing.json says\n'
    )
    return Written(exported, difference, usage, tuple(notes))


FORMATS: dict[str, Callable[[Run, Path], Written]] = {"timm": to_timm, "onnx": to_onnx, "torch": to_torch}


def _any_batch() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch")},)


def _quiet() -> warnings.catch_warnings[None]:
    """The exporters warn of their own future, which no user can help."""
    return warnings.catch_warnings(action="ignore")


def _cannot(run: Run, what: str, error: Exception) -> FastnoisyError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return FastnoisyError(f"{run.path} cannot be exported to {what}: {said}", "Try another format with --to")


def _with_step_counts(model: nn.Module) -> dict[str, Tensor]:
    """The state of a timm model under all of timm's own keys: BatchNorm's step counts, which are not kept in training
    and which nothing reads where the momentum is a number, are zero.
    """
    state = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            state.setdefault(f"{name}.num_batches_tracked", torch.zeros((), dtype=torch.int64))
    return state


def _difference(loaded: nn.Module, exported: Exported) -> float:
    with torch.no_grad():
        return float((loaded(exported.images) - exported.logits).abs().max())


def _onnx_difference(path: Path, exported: Exported) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": exported.images.numpy()})
    return float((torch.from_numpy(logits) - exported.logits).abs().max())
