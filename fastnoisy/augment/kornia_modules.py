"""Operations, policies and view programs as modules of kornia's containers, for those who train without this trainer.

Each is a `kornia.augmentation` module for float images (B, 3, H, W) in [0, 1]: it rounds them to uint8, applies one of
our batched operations with Pillow's pixels, and hands the result back in the input's dtype. What a sample gets is its
own, drawn from torch's generator as one 63-bit key per sample (so `torch.manual_seed` reproduces it) and recorded in
`_params["keys"]` (so kornia's replay, `aug(images, params=aug._params)`, gives the same images).

    AugmentationSequential(KorniaRandAugment(n=2, m=9), kornia.augmentation.Normalize(mean, std))

Labels pass. Masks, boxes and keypoints pass unchanged where only colours change; a module that may move, mix or hide
pixels refuses them. No gradient passes, as images are uint8 between.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from kornia.augmentation.random_generator import RandomGeneratorBase
from torch import Tensor

from fastnoisy.augment import ops
from fastnoisy.augment.program import parse_view
from fastnoisy.augment.registry import REQUIRED
from fastnoisy.augment.steps import SingleOp, get_step
from fastnoisy.errors import FastnoisyError

_PLAIN = "normalize(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))"  # a view ends in floats; `uint8` stops before it
_STAY = ("table", "blend", "pixel")  # families of operations, and below them steps, that move no pixel
_STAYING_STEPS = ("color_jitter", "normalize")
_COMMON = {"p": 1.0, "same_on_batch": False, "keepdim": False}  # arguments of all modules


class _PerSample(RandomGeneratorBase):
    """Draws `keys`, int64 (B,), and, given a range, `values`, float64 (B,) uniform in it."""

    def __init__(self, values: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.values = values

    def __repr__(self) -> str:
        return "per-sample keys" if self.values is None else f"values={self.values}"

    def make_samplers(self, device: torch.device, dtype: torch.dtype) -> None:
        """There are none: integers and float64 whatever kornia's dtype is."""

    def forward(self, batch_shape: tuple[int, ...], same_on_batch: bool = False) -> dict[str, Tensor]:
        """Draw for a batch; one draw for all of it with `same_on_batch`."""
        count, drawn = batch_shape[0], (1 if same_on_batch else batch_shape[0],)
        params = {"keys": torch.randint((1 << 63) - 1, drawn, device=self.device).expand(count)}
        if self.values is not None:
            low, high = self.values
            shares = torch.rand(drawn, dtype=torch.float64, device=self.device)
            params["values"] = (low + (high - low) * shares).expand(count)
        return params


def _to_uint8(images: Tensor) -> Tensor:
    """[0, 1] to 0..255, rounded in float32: float16 images that were uint8 come back as they were."""
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8)


class _Module(IntensityAugmentationBase2D):
    """What the modules share. A label passes through; a mask, box or keypoint does so only if every pixel stays."""

    moves_pixels = True  # or mixes or hides them

    def _refuse(self, what: str) -> None:
        if self.moves_pixels:
            raise FastnoisyError(
                f"{self} moves, mixes or hides pixels, and {what} cannot follow",
                "Give it images only, or use kornia's own geometric augmentations.",
            )

    def apply_transform_mask(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The mask as it is; FastnoisyError if pixels do not stay."""
        self._refuse("a mask")
        return input

    def apply_transform_box(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """The boxes as they are; FastnoisyError if pixels do not stay."""
        self._refuse("boxes")
        return input

    def apply_transform_keypoint(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """The keypoints as they are; FastnoisyError if pixels do not stay."""
        self._refuse("keypoints")
        return input


class KorniaView(_Module):
    """A view program, for example `KorniaView("augmix | random_crop(32, padding=4) | hflip")`.

    The images are those of `parse_view(program).build("kornia")` for the same pixels, `indices=params["keys"]` and
    `key=0`. Without `normalize` the result is in [0, 1]; with it, the program's own floats (it must name its mean and
    standard deviation). No gradient passes.

    Args:
        program: see `parse_view`.
        p: probability of each sample; one that is left out comes back untouched. Where the program changes the size,
            kornia allows 0 and 1 only.
        same_on_batch: one draw for the whole batch.
        keepdim: give (3, H, W) back for (3, H, W).

    Raises:
        FastnoisyError: not a program (see `parse_view`), or images without three channels.
    """

    def __init__(self, program: str, p: float = 1.0, same_on_batch: bool = False, keepdim: bool = False) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        steps = parse_view(program).steps
        self.normalizes = any(call.kind.stage == "normalize" for call in steps)
        self.view = parse_view(program if self.normalizes else f"{program} | {_PLAIN}").build("kornia")
        self.flags = {"program": str(parse_view(program))}
        rest = [call.name for call in steps if call.name not in _STAYING_STEPS]
        self.moves_pixels = any(name not in ops.op_names() or ops.get_op(name).family not in _STAY for name in rest)
        self._param_generator = _PerSample()

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The view of images (B, 3, H, W), with the samples' `params["keys"]`."""
        keys = params["keys"].to(input.device, non_blocking=True)
        make = self.view if self.normalizes else self.view.uint8
        images = make(_to_uint8(input), None, keys, 0)
        return (images if self.normalizes else images.float() / 255).to(input.dtype)


class _KorniaStep(KorniaView):
    """One step of view programs. Takes the step's own arguments, by position or name, then those of `KorniaView`."""

    step: str

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        given = self._signature().bind(*arguments, **keywords).arguments
        own = {name: given.pop(name) for name in tuple(given) if name not in _COMMON}
        super().__init__(f"{self.step}({', '.join(f'{name}={value!r}' for name, value in own.items())})", **given)

    @classmethod
    def _signature(cls) -> inspect.Signature:
        """The step's parameters (but those with one choice) and the common ones."""
        parameters = [p for p in get_step(cls.step).parameters if len(p.choices) != 1]
        defaults = {p.name: inspect.Parameter.empty if p.default is REQUIRED else p.default for p in parameters}
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(name, kind, default=default) for name, default in (defaults | _COMMON).items()]
        )


class KorniaRandAugment(_KorniaStep):
    """`randaugment(n, m)`, drawn per sample (kornia's own `RandAugment` draws its operations once per batch)."""

    step = "randaugment"


class KorniaAugMix(_KorniaStep):
    """`augmix(severity, width, depth)`, with operations, depths and mixing weights drawn per sample."""

    step = "augmix"


class KorniaOp(_Module):
    """One operation of `op_names()` with a value per sample: `KorniaOp("rotate", (-30, 30))`.

    The images are those of `apply_op(name, pixels, params["values"])`.

    Args:
        name: the operation.
        values: range of its values, uniform and in its own unit, or one number; ignored where it has none.
        bilinear: affine maps interpolate; else nearest pixel.
        fill: colour, 0..255, of what an affine map brings in from outside.
        p, same_on_batch, keepdim: see `KorniaView`.
    """

    def __init__(
        self,
        name: str,
        values: float | tuple[float, float] = 0.0,
        bilinear: bool = False,
        fill: tuple[int, int, int] = (0, 0, 0),
        p: float = 1.0,
        same_on_batch: bool = False,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        low, high = values if isinstance(values, tuple) else (values, values)
        if low > high:
            raise FastnoisyError(f"{name}: the values {values!r} end before they begin", "Give (lowest, highest).")
        self.flags = {"name": name, "bilinear": bilinear, "fill": fill}
        self.moves_pixels = ops.get_op(name).family not in _STAY
        self.step = SingleOp(name)
        self._param_generator = _PerSample((float(low), float(high)))

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The operation on images (B, 3, H, W), with the samples' `params["values"]`."""
        images = _to_uint8(input)
        keys, values = (params[name].to(input.device, non_blocking=True) for name in ("keys", "values"))
        height, width = images.shape[2:]
        drawn = self.step.draw(keys, None, (height, width))  # of the values' step only centres are drawn
        options = {"bilinear": flags["bilinear"], "fill": flags["fill"], "centers": drawn.centers if drawn else None}
        images = ops.apply_op(flags["name"], images, values, **options)
        return (images.float() / 255).to(input.dtype)
