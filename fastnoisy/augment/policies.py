"""Policies: which operations each sample gets, in which order, how strong. RandAugment and both kinds of AugMix.

Kornia's and torchvision's batched policies draw once per batch; here every sample draws for itself, from its own key
(`keyed_random`), in integers only: draw number d of a key is `fold(key, d)`. What is not an integer (values, angles)
comes from a float64 table made on the host. So a sample's result is the same in any batch, on any device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastnoisy.augment.draws import UNIT, to_float, uniform
from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.ops import apply_ops, get_op
from fastnoisy.augment.rows import extents
from fastnoisy.keyed_random import below, fold

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


def cutout_centers(keys: Tensor, draw: int, images: Tensor, sizes: Tensor | None) -> Tensor:
    """Centres for `cutout_abs`, uniform in [1, height) x [1, width); int64 (B, 2) in 1/65536 pixel.

    The reference draws `numpy.random.uniform(w)`, which is uniform between w and the default upper end 1.
    Uses the draws `draw` (y) and `draw + 1` (x).
    """
    offsets = [below(fold(keys, draw + axis), (extent - 1) << 16) for axis, extent in enumerate(extents(images, sizes))]
    return torch.stack(offsets, 1) + (1 << 16)


class Slot(NamedTuple):
    """One operation for each sample of a batch, as `apply_ops` takes it."""

    names: tuple[str, ...]
    chosen: Tensor
    values: Tensor
    centers: Tensor | None = None
    rotation: Tensor | None = None
    bilinear: bool = False

    def apply(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Do it."""
        return apply_ops(
            self.names, images, self.chosen, self.values, sizes,
            bilinear=self.bilinear, centers=self.centers, rotation=self.rotation,
        )  # fmt: skip

    def texts(self) -> list[str]:
        """It in words, per sample; "" where nothing is chosen."""
        centers = [None] * len(self.chosen) if self.centers is None else self.centers.tolist()
        rows = zip(self.chosen.tolist(), self.values.tolist(), centers, strict=True)
        return ["" if code < 0 else get_op(self.names[code]).text(value, center) for code, value, center in rows]


def _join(slots: list[Slot]) -> list[str]:
    return [", ".join(filter(None, row)) for row in zip(*(slot.texts() for slot in slots), strict=True)]


class Policy(nn.Module):
    """Base of all policies.

    Holds host tables as buffers, so that they move with the module; float64 ones as their bits, so that
    `module.half()` cannot round them. What is drawn is in `slots`, which `forward` applies and `describe` tells.
    """

    def _store(self, name: str, table: Tensor) -> None:
        self.register_buffer(name, table.view(torch.int64) if table.dtype == torch.float64 else table, persistent=False)

    def _load(self, name: str, index: Tensor) -> Tensor:
        """Rows of a table as stored (a float64 table still as bits)."""
        table: Tensor = getattr(self, name)
        return table.index_select(0, index)

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """The operations of each sample, in order; of the images only the shape matters."""
        raise NotImplementedError

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Tensor:
        """Augment uint8 (B, 3, H, W) with valid `sizes` (B, 2) or None, each image by its key, int64 (B,)."""
        for slot in self.slots(images, sizes, keys):
            images = slot.apply(images, sizes)
        return images

    def describe(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[str]:
        """What `forward` does to each image: "rotate -3.33, posterize 4"."""
        return _join(self.slots(images, sizes, keys))


class RandAugment(Policy):
    """RandAugment (Cubuk et al. 2019, arXiv:1909.13719) as in ildoonet/pytorch-randaugment.

    N operations, uniform over 16 with replacement, all at magnitude M of 30; nearest pixels, black fill.

    Args:
        n: operations per image.
        m: magnitude, 0..30.
    """

    def __init__(self, n: int, m: float) -> None:
        super().__init__()
        self.n, self.m = n, m
        self.names = tuple(row[0] for row in RANDAUGMENT_TABLE)
        values = [(randaugment_value(name, m), signed) for name, _, _, signed in RANDAUGMENT_TABLE]
        table = torch.tensor([[value, -value if signed else value] for value, signed in values], dtype=torch.float64)
        self._store("values", table.view(-1))
        angle = randaugment_value("rotate", m)
        self._store("rotations", rotation_table([angle, -angle]))

    def choose(self, keys: Tensor, slot: int) -> tuple[Tensor, Tensor]:
        """The operation in `slot` (0..n-1) and whether its sign is negative, int64 (B,) each."""
        return below(fold(keys, 4 * slot), len(self.names)), below(fold(keys, 4 * slot + 1), 2)

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """The n operations of each sample."""
        slots = []
        for position in range(self.n):
            chosen, negative = self.choose(keys, position)
            values = self._load("values", 2 * chosen + negative).view(torch.float64)
            centers = cutout_centers(keys, 4 * position + 2, images, sizes)
            slots.append(Slot(self.names, chosen, values, centers, self._load("rotations", negative)))
        return slots


class _Mixture(Policy):
    """What both kinds of AugMix share: chains of drawn operations, and a drawn mixture of them and the image.

    Weights are 16-bit integers that sum to 65536: w_i = m s_i, w_0 = 1 - m; the s_i are the gaps between `width - 1`
    sorted integers, uniform in [0, 65536), which is Dirichlet(1, ..., 1); m is one more such integer.
    """

    names: tuple[str, ...]
    levels: int  # an operation's level is drawn from so many
    rounding: int  # added to a mixture in units of 2**-16 before it is rounded down

    def __init__(self, severity: int, width: int, depth: int) -> None:
        super().__init__()
        self.severity, self.width, self.depth = severity, width, depth

    def mixture(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The chains' common share m, int64 (B,), and its parts s, int64 (B, width), in units of 2**-16."""
        keys = fold(keys, 0)
        ends = keys.new_zeros((len(keys), 1))
        cuts = [below(fold(keys, cut), 1 << 16) for cut in range(1, self.width)]
        inner = torch.stack(cuts, 1).sort(1).values if cuts else ends[:, :0]
        return below(fold(keys, 0), 1 << 16), torch.cat([ends, inner, ends + (1 << 16)], 1).diff(dim=1)

    def weights(self, keys: Tensor) -> Tensor:
        """Mixing weights, int64 (B, 1 + width), of the image and of its chains; each row sums to 65536."""
        share, gaps = self.mixture(keys)
        chains = (gaps * share[:, None]) >> 16
        return torch.cat([(1 << 16) - chains.sum(1, keepdim=True), chains], 1)

    def chain_keys(self, keys: Tensor) -> Tensor:
        """The chains' own keys, int64 (width * B,), chain by chain."""
        chains = torch.arange(self.width, device=keys.device)
        return fold(fold(keys, 1), chains[:, None]).view(-1)

    def depths(self, chain_keys: Tensor) -> Tensor:
        """The number of operations of each chain, int64."""
        if self.depth > 0:
            return torch.full_like(chain_keys, self.depth)
        return 1 + below(fold(chain_keys, 0), 3)

    def choose(self, chain_keys: Tensor, position: int) -> tuple[Tensor, Tensor, Tensor]:
        """The operation at a position of each chain, its level, and whether its sign is negative; int64."""
        limits = (len(self.names), self.levels, 2)
        draws = [below(fold(chain_keys, 1 + 3 * position + part), limit) for part, limit in enumerate(limits)]
        return draws[0], draws[1], draws[2]

    def operations(self, chain_keys: Tensor, position: int, height: Tensor, width: Tensor) -> Slot:
        """The operation at a position of each chain, whether the chain is that long or not."""
        raise NotImplementedError

    def slots(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[Slot]:
        """The operations of the chains of each sample, chain by chain: (width * B,) of them in each slot."""
        chain_keys = self.chain_keys(keys)
        depths = self.depths(chain_keys)
        height, width = (extent.repeat(self.width) for extent in extents(images, sizes))
        slots = []
        for position in range(self.depth if self.depth > 0 else 3):
            slot = self.operations(chain_keys, position, height, width)
            slots.append(slot._replace(chosen=torch.where(depths > position, slot.chosen, -1), bilinear=True))
        return slots

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Tensor:
        """Augment uint8 (B, 3, H, W) with valid `sizes` (B, 2) or None, each image by its key, int64 (B,)."""
        chains = images.repeat(self.width, 1, 1, 1)
        chain_sizes = None if sizes is None else sizes.repeat(self.width, 1)
        for slot in self.slots(images, sizes, keys):
            chains = slot.apply(chains, chain_sizes)
        weights = self.weights(keys).int()[:, :, None, None, None]
        mixed = images * weights[:, 0] + self.rounding
        for index, chain in enumerate(chains.view(self.width, *images.shape).unbind(0), start=1):
            mixed = mixed + chain * weights[:, index]
        return (mixed >> 16).to(torch.uint8)

    def describe(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> list[str]:
        """The chains of each image, then the weights of the image and of them: "invert / color 1.2 | 0.6 0.3 0.1"."""
        chains, count = _join(self.slots(images, sizes, keys)), len(images)
        texts = [" / ".join(chains[row::count]) for row in range(count)]
        weights = [" ".join(f"{weight / 65536:.2f}" for weight in row) for row in self.weights(keys).tolist()]
        return [f"{text} | {weight}" for text, weight in zip(texts, weights, strict=True)]


class AugMix(_Mixture):
    """AugMix (Hendrycks et al. 2020, arXiv:1912.02781) as torchvision's `AugMix` with `all_ops`, on Pillow's pixels.

    result = (w_0 x + sum_i w_i chain_i(x)) rounded down, w_i = m s_i, (s_i) ~ Dirichlet(1, ..., 1), m ~ U(0, 1).
    A chain applies `depth` operations, uniform over 13 with replacement, each with a magnitude uniform among the first
    `severity` entries of its table of 10 and, where it has one, a random sign; bilinear, black fill. Translations are by
    int(linspace(0, size / 3, 10)[entry]) pixels of the *valid* size.

    Args:
        severity: number of table entries in use, 1..10.
        width: number of chains.
        depth: operations per chain, or -1 for uniform in {1, 2, 3}, drawn per chain.
    """

    names = AUGMIX_OPS
    rounding = 0

    def __init__(self, severity: int = 3, width: int = 3, depth: int = -1) -> None:
        super().__init__(severity, width, depth)
        self.levels = severity
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

    def operations(self, chain_keys: Tensor, position: int, height: Tensor, width: Tensor) -> Slot:
        """The operation at a position of each chain, whether the chain is that long or not."""
        chosen, level, negative = self.choose(chain_keys, position)
        entry = 2 * level + negative
        values = self._load("values", 2 * self.severity * chosen + entry).view(torch.float64)
        for name, extent in (("translate_x", width), ("translate_y", height)):
            pixels = level * extent // 27 * (1 - 2 * negative)  # linspace(0, extent / 3, 10)[level], rounded down
            values = torch.where(chosen == self.names.index(name), pixels.double(), values)
        return Slot(self.names, chosen, values, rotation=self._load("rotations", entry))


class GoogleAugMix(_Mixture):
    """AugMix as its authors' code (google-research/augmix at 9b9824c7c1): 9 operations, continuous levels.

    Every operation has its own level l ~ U(0.1, severity), of 65536 values: posterize keeps 4 - int(0.4 l) bits, rotate
    turns by int(3 l) degrees, solarize inverts from 256 - int(25.6 l) on, shears are 0.03 l, translations int(l size /
    30) pixels of the valid size, enhancement factors 0.18 l + 0.1; random signs; bilinear, black fill. Mixing as in
    `AugMix`. The authors mix floats that are never rounded; here the mixture is uint8 again, rounded to the nearest
    level, so it is at most 0.52 of a level away from theirs of the same chains.

    Args:
        severity: the highest level, 1..10.
        width: number of chains.
        depth: operations per chain, or -1 for uniform in {1, 2, 3}, drawn per chain.
        all_ops: also color, contrast, brightness and sharpness, which overlap with CIFAR-10-C's corruptions.
    """

    levels = 1 << 16
    rounding = 1 << 15

    def __init__(self, severity: int = 3, width: int = 3, depth: int = -1, all_ops: bool = False) -> None:
        super().__init__(severity, width, depth)
        self.names = GOOGLE_AUGMIX_OPS if all_ops else GOOGLE_AUGMIX_OPS[:9]
        self._store("rotations", rotation_table([float(degrees) for degrees in range(-30, 31)]))

    def operations(self, chain_keys: Tensor, position: int, height: Tensor, width: Tensor) -> Slot:
        """The operation at a position of each chain, whether the chain is that long or not."""
        chosen, number, negative = self.choose(chain_keys, position)
        level, sign = uniform(number, 0.1, self.severity), 1 - 2 * negative
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
        return Slot(self.names, chosen, values, rotation=self._load("rotations", degrees + 30))
