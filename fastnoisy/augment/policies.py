"""Policies: steps that draw operations per sample. Their base class, RandAugment, and both kinds of AugMix.

Kornia's and torchvision's batched policies draw once per batch; here every sample draws for itself, from its own key
(`keyed_random`), in integers only: draw number d of a key is `fold(key, d)`. What is not an integer (values, angles)
comes from a float64 table made on the host. So a sample's result is the same in any batch, on any device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastnoisy.augment.draws import UNIT, cells, middle, to_float
from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.ops import apply_ops, get_op
from fastnoisy.augment.registry import Parameter, Result, Step, step
from fastnoisy.augment.rows import valid_sizes
from fastnoisy.keyed_random import below

# (operation, lowest, highest value, sign drawn); the order is that of ildoonet/pytorch-randaugment at 48b8f509c4
RANDAUGMENT_TABLE: tuple[tuple[str, float, float, bool], ...] = (
    ("autocontrast", 0, 1, False),
    ("equalize", 0, 1, False),
    ("invert", 0, 1, False),
    ("rotate", 0, 30, True),
    ("posterize", 0, 4, False),
    ("solarize", 0, 256, False),
    ("solarize_add", 0, 110, False),
    ("color", 0.1, 1.9, False),
    ("contrast", 0.1, 1.9, False),
    ("brightness", 0.1, 1.9, False),
    ("sharpness", 0.1, 1.9, False),
    ("shear_x", 0.0, 0.3, True),
    ("shear_y", 0.0, 0.3, True),
    ("cutout_abs", 0, 40, False),
    ("translate_x", 0.0, 100, True),
    ("translate_y", 0.0, 100, True),
)
# in the order of torchvision.transforms.AugMix with all_ops
AUGMIX_OPS: tuple[str, ...] = (
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize", "autocontrast", "equalize",
    "brightness", "color", "contrast", "sharpness",
)  # fmt: skip


GOOGLE_AUGMIX_OPS: tuple[str, ...] = (  # the last four only with all_ops
    "autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y", "translate_x", "translate_y",
    "color", "contrast", "brightness", "sharpness",
)  # fmt: skip
ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")


def randaugment_value(name: str, magnitude: float) -> float:
    """An operation's value at magnitude M: M / 30 * (highest - lowest) + lowest; posterize keeps at least one bit."""
    lowest, highest = next((low, high) for op, low, high, _ in RANDAUGMENT_TABLE if op == name)
    value = magnitude / 30 * (highest - lowest) + lowest
    return float(max(1, int(value))) if name == "posterize" else value


def augmix_value(name: str, level: int) -> float:
    """An operation's magnitude at table entry 0..9, before its sign; the enhancements' is the distance from factor 1.

    Translations depend on the image: see `AugMix`.
    """
    if name == "posterize":
        return float(4 - round(level / 2.25))
    if name == "solarize":
        return 255.0 + level * (-255.0 / 9)
    highest = {"shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0}
    highest |= dict.fromkeys(ENHANCEMENTS, 0.9)
    return level * (highest.get(name, 0.0) / 9)


def cutout_centers(numbers: Tensor, sizes: Tensor) -> Tensor:
    """Centres for `cutout_abs`, uniform in [1, height) x [1, width); int64 (..., 2) in 1/65536 pixel, y first.

    The reference draws `numpy.random.uniform(w)`, which is uniform between w and the default upper end 1.

    Args:
        numbers: draws, int64 (..., 2), of y and x.
        sizes: valid (height, width), int64, broadcastable to `numbers`.
    """
    return below(numbers, (sizes - 1) << 16) + (1 << 16)


class Operations(NamedTuple):
    """The operations of each sample, P one after another.

    Attributes:
        chosen: int64 (B, P), an index into the policy's `names`; -1 for none.
        values: float64 (B, P), in the operations' units.
        rotation: int64 (B, P, 2), cosine and sine of `rotate`, in units of 2**-48; None where the policy has no
            `rotate`.
        centers: int64 (B, P, 2), of `cutout_abs`, in 1/65536 pixel; None where the policy has no `cutout_abs`.
    """

    chosen: Tensor
    values: Tensor
    rotation: Tensor | None = None
    centers: Tensor | None = None


class Policy(Step):
    """Base of all policies: `draw` gives `Operations`.

    Holds host tables as buffers, so that they move with the module; float64 ones as their bits, so that
    `module.half()` cannot round them.
    """

    names: tuple[str, ...]  # the operations to choose from
    bilinear = False

    limits: Tensor  # of what is drawn uniformly, side by side

    def _store(self, name: str, table: Tensor) -> None:
        self.register_buffer(name, table.view(torch.int64) if table.dtype == torch.float64 else table, persistent=False)

    def _load(self, name: str, index: Tensor) -> Tensor:
        """Rows of a table as stored (a float64 table still as bits), of the shape of `index`."""
        table: Tensor = getattr(self, name)
        return table[index]

    def _apply_all(self, images: Tensor, sizes: Tensor | None, draws: Operations) -> Tensor:
        """The operations one after another."""
        chosen, values, rotation, centers = draws
        for position in range(chosen.shape[1]):
            images = apply_ops(
                self.names, images, chosen[:, position], values[:, position], sizes, bilinear=self.bilinear,
                centers=None if centers is None else centers[:, position],
                rotation=None if rotation is None else rotation[:, position],
            )  # fmt: skip
        return images

    def _texts(self, draws: Operations) -> list[str]:
        """The operations of each sample in words: "rotate -3.33, posterize 4"."""
        centers = [[None] * draws.chosen.shape[1]] * len(draws.chosen)
        rows = zip(
            draws.chosen.tolist(),
            draws.values.tolist(),
            centers if draws.centers is None else draws.centers.tolist(),
            strict=True,
        )
        return [
            ", ".join(
                get_op(self.names[code]).text(value, center)
                for code, value, center in zip(*row, strict=True)
                if code >= 0
            )
            for row in rows
        ]

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """See `Step.apply`."""
        return self._apply_all(images, sizes, draws), sizes

    def words(self, draws: Any) -> list[str]:
        """The operations with their values: "rotate -3.33, posterize 4"."""
        return self._texts(draws)


@step("randaugment", Parameter("n", "integer", low=1, high=16), Parameter("m", "number", low=0, high=30))
class RandAugment(Policy):
    """RandAugment: n of 16 operations at magnitude m of 30, nearest pixels (ildoonet/pytorch-randaugment).

    Cubuk et al. 2019, arXiv:1909.13719. Operations are uniform with replacement; black fill.
    """

    names = tuple(row[0] for row in RANDAUGMENT_TABLE)

    def __init__(self, n: int, m: float) -> None:
        super().__init__(draws=4 * n)
        self.n, self.m = n, m
        values = [(randaugment_value(name, m), signed) for name, _, _, signed in RANDAUGMENT_TABLE]
        table = torch.tensor([[value, -value if signed else value] for value, signed in values], dtype=torch.float64)
        self._store("values", table.view(-1))
        angle = randaugment_value("rotate", m)
        self._store("rotations", rotation_table([angle, -angle]))
        self._store("limits", torch.tensor([len(self.names), 2]))

    def choose(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Each sample's operations and whether their signs are negative, int64 (B, n) each."""
        return self._choose(self.numbers(keys).view(-1, self.n, 4))

    def _choose(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        chosen, negative = below(numbers[..., :2], self.limits).unbind(2)
        return chosen, negative

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Operations:
        """Per operation four numbers: which, its sign, and the centre's y and x."""
        numbers = self.numbers(keys).view(-1, self.n, 4)
        chosen, negative = self._choose(numbers)
        return Operations(
            chosen,
            self._load("values", 2 * chosen + negative).view(torch.float64),
            self._load("rotations", negative),
            cutout_centers(numbers[..., 2:], valid_sizes(keys, sizes, canvas)[:, None]),
        )


class Choices(NamedTuple):
    """What a mixture's chains draw, W chains of up to P operations each; integers, int64.

    Attributes:
        depths: (B, W), the number of operations of each chain.
        chosen, levels, negative: (B, W, P), whether the chain is that long or not.
        share: (B,), the chains' common share m in units of 2**-16.
        gaps: (B, W), its parts s in units of 2**-16; each row sums to 65536.
    """

    depths: Tensor
    chosen: Tensor
    levels: Tensor
    negative: Tensor
    share: Tensor
    gaps: Tensor

    def weights(self) -> Tensor:
        """Mixing weights, int64 (B, 1 + W), of the image and of its chains; each row sums to 65536."""
        chains = (self.gaps * self.share[:, None]) >> 16
        return torch.cat([(1 << 16) - chains.sum(1, keepdim=True), chains], 1)


class Mixture(NamedTuple):
    """The chains of each sample and how they are mixed.

    Attributes:
        chosen, values, rotation: as in `Operations`, for the chains, so (B, W, P) and (B, W, P, 2).
        weights: int64 (B, 1 + W), of the image and of its chains, in units of 2**-16; each row sums to 65536.
    """

    chosen: Tensor
    values: Tensor
    rotation: Tensor
    weights: Tensor

    def chains(self) -> Operations:
        """The operations of all chains, an image's after another's: (B * W, P)."""
        return Operations(*(part.flatten(0, 1) for part in (self.chosen, self.values, self.rotation)))


class _Mixture(Policy):
    """What both kinds of AugMix share: chains of drawn operations, and a drawn mixture of them and the image.

    Weights are 16-bit integers that sum to 65536: w_i = m s_i, w_0 = 1 - m; the s_i are the gaps between `width - 1`
    sorted integers, uniform in [0, 65536), which is Dirichlet(1, ..., 1); m is one more such integer. A depth of -1 is
    uniform in {1, 2, 3}, drawn per chain.
    """

    bilinear = True
    rounding: int  # added to a mixture in units of 2**-16 before it is rounded down

    def __init__(self, names: tuple[str, ...], levels: int, width: int, depth: int) -> None:
        self.longest = depth if depth > 0 else 3
        super().__init__(draws=max(2, width, 1 + 3 * self.longest))
        self.names, self.width, self.depth = names, width, depth
        self._store("limits", torch.tensor([len(names), levels, 2]))

    def choose(self, keys: Tensor) -> Choices:
        """Three folds: of the sample's two keys, for weights and for chains; of the chains' own keys; of their
        numbers.
        """
        weights, chain_keys = self.numbers(self.numbers(keys, 2), self.width).unbind(1)
        numbers = self.numbers(chain_keys, 1 + 3 * self.longest)
        fixed = self.depth > 0
        depths = torch.full_like(chain_keys, self.depth) if fixed else 1 + below(numbers[..., 0], 3)
        picked = below(numbers[..., 1:].unflatten(-1, (self.longest, 3)), self.limits)
        chosen, levels, negative = picked.unbind(3)
        return Choices(depths, chosen, levels, negative, *self._shares(below(weights, 1 << 16)))

    def _shares(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """`Choices.share` and `.gaps` from integers below 65536, (B, W)."""
        ends = numbers.new_zeros((len(numbers), 1))
        inner = numbers[:, 1:].sort(1).values if self.width > 1 else numbers[:, 1:]
        return numbers[:, 0], torch.cat([ends, inner, ends + (1 << 16)], 1).diff(dim=1)

    def operations(self, choices: Choices, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """What the choices mean: values, float64 (B, W, P), and rotations, int64 (B, W, P, 2).

        Args:
            choices: `choose(keys)`.
            height, width: of the valid areas, int64 (B, 1, 1).
        """
        raise NotImplementedError

    def draw(self, keys: Tensor, sizes: Tensor | None, canvas: tuple[int, int]) -> Mixture:
        """See `choose`."""
        choices = self.choose(keys)
        height, width = valid_sizes(keys, sizes, canvas)[:, :, None, None].unbind(1)
        values, rotation = self.operations(choices, height, width)
        position = torch.arange(self.longest, device=keys.device)
        chosen = torch.where(choices.depths[..., None] > position, choices.chosen, -1)
        return Mixture(chosen, values, rotation, choices.weights())

    def apply(self, images: Tensor, sizes: Tensor | None, draws: Any) -> Result:  # type: ignore[override]
        """All chains of all images in one batch, then the mixture, rounded."""

        def repeated(part: Tensor) -> Tensor:
            return part[:, None].expand(-1, self.width, *part.shape[1:]).flatten(0, 1)

        chains = self._apply_all(repeated(images), None if sizes is None else repeated(sizes), draws.chains())
        weights = draws.weights.int()[:, :, None, None, None]
        mixed = images * weights[:, 0] + self.rounding
        for index, chain in enumerate(chains.unflatten(0, (-1, self.width)).unbind(1), start=1):
            mixed = mixed + chain * weights[:, index]
        return (mixed >> 16).to(torch.uint8), sizes

    def words(self, draws: Any) -> list[str]:
        """The chains of each image, then the weights of the image and of them: "invert / color 1.2 | 0.6 0.3 0.1"."""
        chains, width = self._texts(draws.chains()), self.width
        return [
            " / ".join(chains[row * width : (row + 1) * width])
            + " | "
            + " ".join(f"{part / 65536:.2f}" for part in weights)
            for row, weights in enumerate(draws.weights.tolist())
        ]


_MIXTURE = (
    Parameter("severity", "integer", 3, 1, 10),
    Parameter("width", "integer", 3, 1, 16),
    Parameter("depth", "integer", -1, choices=(-1, *range(1, 11)), note="-1: 1, 2 or 3, drawn per chain"),
    Parameter("alpha", "number", 1, choices=(1,), note="mixing weights are gaps between sorted integers, Dirichlet(1)"),
)


@step("augmix", *_MIXTURE)
class AugMix(_Mixture):
    """AugMix: a random mixture of the image and `width` augmented copies (torchvision's, on Pillow's pixels).

    Hendrycks et al. 2020, arXiv:1912.02781, as torchvision's `AugMix` with `all_ops`: (w_0 x + sum_i w_i chain_i(x))
    rounded down, w_i = m s_i, (s_i) ~ Dirichlet(1, ..., 1), m ~ U(0, 1). A chain applies `depth` operations, uniform
    over 13 with replacement, each with a magnitude uniform among the first `severity` entries of its table of 10 and,
    where it has one, a random sign; bilinear, black fill. Translations are by int(linspace(0, size / 3, 10)[entry])
    pixels of the *valid* size.
    """

    rounding = 0

    def __init__(self, severity: int, width: int, depth: int, alpha: float) -> None:
        super().__init__(AUGMIX_OPS, severity, width, depth)
        self.severity = severity
        values = [self._signed_pair(name, level) for name in self.names for level in range(severity)]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        angles = [self._signed_pair("rotate", level) for level in range(severity)]
        self._store("rotations", rotation_table([angle for pair in angles for angle in pair]))

    @staticmethod
    def _signed_pair(name: str, level: int) -> tuple[float, float]:
        magnitude = augmix_value(name, level)
        if name in ENHANCEMENTS:
            return 1.0 + magnitude, 1.0 - magnitude
        return magnitude, magnitude if name in ("posterize", "solarize", "autocontrast", "equalize") else -magnitude

    def operations(self, choices: Choices, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """From tables; translations from the valid area."""
        chosen, level, negative = choices.chosen, choices.levels, choices.negative
        entry = 2 * level + negative
        values = self._load("values", 2 * self.severity * chosen + entry).view(torch.float64)
        for name, extent in (("translate_x", width), ("translate_y", height)):
            pixels = level * extent // 27 * (1 - 2 * negative)  # linspace(0, extent / 3, 10)[level], rounded down
            values = torch.where(chosen == self.names.index(name), pixels.double(), values)
        return values, self._load("rotations", entry)


@step("google_augmix", *_MIXTURE, Parameter("all_ops", "switch", False))
class GoogleAugMix(_Mixture):
    """AugMix as its authors' code: 9 operations (all_ops: 13) of continuous strength, the mixture rounded to uint8.

    google-research/augmix at 9b9824c7c1. Every operation has its own level l ~ U(0.1, severity), of 65536 values:
    posterize keeps 4 - int(0.4 l) bits, rotate turns by int(3 l) degrees, solarize inverts from 256 - int(25.6 l) on,
    shears are 0.03 l, translations int(l size / 30) pixels of the valid size, enhancement factors 0.18 l + 0.1; random
    signs; bilinear, black fill. Mixing as in `AugMix`. The authors mix floats that are never rounded; here the mixture
    is uint8 again, rounded to the nearest level, so it is at most 0.52 of a level away from theirs of the same chains.
    `all_ops` adds color, contrast, brightness and sharpness, which overlap with CIFAR-10-C's corruptions.
    """

    rounding = 1 << 15

    def __init__(self, severity: int, width: int, depth: int, alpha: float, all_ops: bool) -> None:
        super().__init__(GOOGLE_AUGMIX_OPS if all_ops else GOOGLE_AUGMIX_OPS[:9], 1 << 16, width, depth)
        self.cells = cells(0.1, severity)
        self._store("rotations", rotation_table([float(degrees) for degrees in range(-30, 31)]))

    def operations(self, choices: Choices, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """By the levels, in units of 2**-40."""
        chosen, level, sign = choices.chosen, middle(choices.levels, *self.cells), 1 - 2 * choices.negative
        degrees = sign * (3 * level // UNIT)
        shear = to_float(sign * (3 * level // 100))
        factor = to_float((18 * level + 10 * UNIT) // 100)
        by_name = {
            "posterize": (4 - 4 * level // (10 * UNIT)).double(),
            "rotate": degrees.double(),
            "solarize": (256 - 256 * level // (10 * UNIT)).double(),
            "shear_x": shear,
            "shear_y": shear,
            "translate_x": (sign * (level * width // (30 * UNIT))).double(),
            "translate_y": (sign * (level * height // (30 * UNIT))).double(),
        } | dict.fromkeys(ENHANCEMENTS, factor)
        values = torch.zeros_like(factor)
        for code, name in enumerate(self.names):
            if name in by_name:
                values = torch.where(chosen == code, by_name[name], values)
        return values, self._load("rotations", degrees + 30)
