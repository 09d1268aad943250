"""In which precision and memory order a run's networks compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastnoisy.config import Config
from fastnoisy.machine import has_bf16


def amp_dtype(config: Config, device: torch.device) -> torch.dtype | None:
    """The dtype to autocast to, or None. `auto`: bf16 where the device computes with it natively."""
    return amp_dtype_of(config, config.amp == "auto" and has_bf16(device))


def amp_dtype_of(config: Config, bf16: bool) -> torch.dtype | None:
    """The same of a device that may be another machine's: whether it has bf16 natively (asked for by `auto` alone)."""
    if config.dtype == "float64" or config.amp == "off" or (config.amp == "auto" and not bf16):
        return None
    return torch.float16 if config.amp == "fp16" else torch.bfloat16


def memory_format(config: Config, device: torch.device) -> torch.memory_format:
    """Channels-last unless switched off (benchmarks/precision.py); `auto` leaves float64 on a CPU contiguous, which
    oneDNN does not compute.
    """
    on = config.channels_last == "on" or (
        config.channels_last == "auto" and (device.type == "cuda" or config.dtype != "float64")
    )
    return torch.channels_last if on else torch.contiguous_format


def told(config: Config, device: torch.device) -> str:
    """Precision and memory order in words: `bf16, channels-last`."""
    names = {None: config.dtype, torch.float16: "fp16", torch.bfloat16: "bf16"}
    order = "channels-last" if memory_format(config, device) == torch.channels_last else "contiguous"
    return f"{names[amp_dtype(config, device)]}, {order}"


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Autocast to a dtype of `amp_dtype`; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def training_autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """The same for a forward whose backward follows: on a CPU in bf16, gradients of depthwise convolutions are computed
    in float32.

    oneDNN has no fast bf16 kernel for them where the stride is two or the kernel 5x5 (benchmarks/depthwise.py).
    """
    if device.type != "cpu" or dtype != torch.bfloat16:
        return autocast(device, dtype)
    both = ExitStack()
    both.enter_context(torch.autocast("cpu", dtype))
    both.enter_context(_DepthwiseMode())
    return both


class _DepthwiseMode(TorchFunctionMode):
    """Hands depthwise convolutions to `_Depthwise`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and args[2] is None:
            images, weight, _, stride, padding, dilation, groups = args
            if groups > 1 and groups == images.shape[1] and not isinstance(padding, str):
                return _Depthwise.apply(images, weight, *map(_pair, (stride, padding, dilation)), groups)
        return func(*args, **(kwargs or {}))


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Depthwise(torch.autograd.Function):
    """A convolution in bf16 whose gradients are computed in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        images = images.to(torch.bfloat16)
        ctx.save_for_backward(images, weight)
        ctx.places = stride, padding, dilation, groups
        return torch.conv2d(images, weight.to(torch.bfloat16), None, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.places
        wanted = [*ctx.needs_input_grad[:2], False]
        of_images, of_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(), images.float(), weight.float(), None,
            stride, padding, dilation, False, [0, 0], groups, wanted,
        )  # fmt: skip
        of_images = of_images.to(images.dtype) if of_images is not None else None
        return of_images, of_weight, None, None, None, None
