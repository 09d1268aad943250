"""Packages that not everyone needs: what each is for, how to get it, one way to import it. Standard library only."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from fastnoisy.errors import FastnoisyError, unknown_name


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of setup.py.

    Attributes:
        module: what is imported.
        purpose: what it is for, a few words.
        install: the line that installs it.
        note: what the line needs, or what to do where it fails; may be empty.
    """

    module: str
    purpose: str
    install: str
    note: str = ""


EXTRAS = {
    "cluster": Extra("ray", "work on a Ray cluster", "pip install 'fastnoisy[cluster]'"),
    "dali": Extra(
        "nvidia.dali",
        "the dali pipeline",
        "pip install 'fastnoisy[dali]'",
        # DALI's installation page: the CUDA 13 wheel runs on drivers from 580, the CUDA 12 wheel from 525.60.
        "with a driver older than 580: pip install nvidia-dali-cuda120",
    ),
    "ffcv": Extra(
        "ffcv",
        "the ffcv pipeline",
        "pip install 'fastnoisy[ffcv]'",
        "it is compiled on install; first: apt install libopencv-dev libturbojpeg0-dev pkg-config g++ python3-dev",
    ),
    # torch's exporter is built on onnxscript, which imports onnx; onnxruntime checks what was written
    "onnx": Extra("onnxscript", "export to ONNX", "pip install 'fastnoisy[onnx]'"),
    "parquet": Extra("pyarrow", "lists of files in Parquet", "pip install 'fastnoisy[parquet]'"),
}


def load(extra: str, module: str = "") -> ModuleType:
    """Import an extra's package, or a module of it.

    Raises:
        FastnoisyError: it is missing, or does not load; with the line that installs it.
    """
    if extra not in EXTRAS:
        raise unknown_name("extra", extra, EXTRAS)
    about = EXTRAS[extra]
    remedy = f"Run: {about.install}" + (f" ({about.note})" if about.note else "")
    try:
        return importlib.import_module(module or about.module)
    except ModuleNotFoundError as error:
        own = error.name is not None and f"{about.module}.".startswith(f"{error.name}.")
        missing = about.module if own else f"{error.name}, which {about.module} imports"
        raise FastnoisyError(f"{about.purpose} needs {missing}: it is not installed", remedy) from None
    except Exception as error:  # a package whose libraries do not fit raises anything on import
        line = " ".join(str(error).split())[:300]
        raise FastnoisyError(f"{about.purpose} needs {about.module}, which does not load: {line}", remedy) from error
