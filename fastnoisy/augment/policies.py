"""Policies: which operations each sample gets, in which order, how strong. RandAugment and AugMix.

Kornia's and torchvision's batched policies draw once per batch; here every sample draws for itself, from its own key
(`keyed_random`), in integers only: draw number d of a key is `fold(key, d)`. What is not an integer (values, angles)
comes from a float64 table made on the host. So a sample's result is the same in any batch, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnoisy.augment.geometry import rotation_table
from fastnoisy.augment.ops import apply_ops
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
    highest |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9)
    return level * (highest.get(name, 0.0) / 9)


def cutout_centers(keys: Tensor, draw: int, images: Tensor, sizes: Tensor | None) -> Tensor:
    """Centres for `cutout_abs`, uniform in [1, height) x [1, width); int64 (B, 2) in 1/65536 pixel.

    The reference draws `numpy.random.uniform(w)`, which is uniform between w and the default upper end 1.
    Uses the draws `draw` (y) and `draw + 1` (x).
    """
    offsets = [below(fold(keys, draw + axis), (extent - 1) << 16) for axis, extent in enumerate(extents(images, sizes))]
    return torch.stack(offsets, 1) + (1 << 16)


class _Policy(nn.Module):
    """Holds host tables as buffers, so that they move with the module; float64 ones as their bits, so that
    `module.half()` cannot round them."""

    def _store(self, name: str, table: Tensor) -> None:
        self.register_buffer(name, table.view(torch.int64) if table.dtype == torch.float64 else table, persistent=False)

    def _load(self, name: str, index: Tensor) -> Tensor:
        """Rows of a table as stored (a float64 table still as bits)."""
        table: Tensor = getattr(self, name)
        return table.index_select(0, index)


class RandAugment(_Policy):
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

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Tensor:
        """Augment uint8 (B, 3, H, W) with valid `sizes` (B, 2) or None, each image by its key, int64 (B,)."""
        for slot in range(self.n):
            chosen, negative = self.choose(keys, slot)
            images = apply_ops(
                self.names,
                images,
                chosen,
                self._load("values", 2 * chosen + negative).view(torch.float64),
                sizes,
                centers=cutout_centers(keys, 4 * slot + 2, images, sizes),
                rotation=self._load("rotations", negative),
            )
        return images


class AugMix(_Policy):
    """AugMix (Hendrycks et al. 2020, arXiv:1912.02781) as torchvision's `AugMix` with `all_ops`, on Pillow's pixels.

    result = (w_0 x + sum_i w_i chain_i(x)) rounded down, w_i = m s_i, (s_i) ~ Dirichlet(1, ..., 1), m ~ U(0, 1).
    A chain applies `depth` operations, uniform over 13 with replacement, each with a magnitude uniform among the first
    `severity` entries of its table of 10 and, where it has one, a random sign; bilinear, black fill.

    Weights are 16-bit integers that sum to 65536: the s_i are the gaps between `width - 1` sorted integers, uniform in
    [0, 65536), m is one more. Translations are by int(linspace(0, size / 3, 10)[entry]) pixels of the *valid* size.

    Args:
        severity: number of table entries in use, 1..10.
        width: number of chains.
        depth: operations per chain, or -1 for uniform in {1, 2, 3}, drawn per chain.
    """

    def __init__(self, severity: int = 3, width: int = 3, depth: int = -1) -> None:
        super().__init__()
        self.severity, self.width, self.depth = severity, width, depth
        values = [self._signed_pair(name, level) for name in AUGMIX_OPS for level in range(severity)]
        self._store("values", torch.tensor(values, dtype=torch.float64).view(-1))
        angles = [self._signed_pair("rotate", level) for level in range(severity)]
        self._store("rotations", rotation_table([angle for pair in angles for angle in pair]))

    @staticmethod
    def _signed_pair(name: str, level: int) -> tuple[float, float]:
        magnitude = augmix_value(name, level)
        if name in ("brightness", "color", "contrast", "sharpness"):
            return 1.0 + magnitude, 1.0 - magnitude
        return magnitude, magnitude if name in ("posterize", "solarize", "autocontrast", "equalize") else -magnitude

    def weights(self, keys: Tensor) -> Tensor:
        """Mixing weights, int64 (B, 1 + width), of the image and of its chains; each row sums to 65536."""
        keys = fold(keys, 0)
        share = below(fold(keys, 0), 1 << 16)[:, None]
        ends = keys.new_zeros((len(keys), 1))
        cuts = [below(fold(keys, cut), 1 << 16) for cut in range(1, self.width)]
        inner = torch.stack(cuts, 1).sort(1).values if cuts else ends[:, :0]
        gaps = torch.cat([ends, inner, ends + (1 << 16)], 1).diff(dim=1)
        chains = (gaps * share) >> 16
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
        """The operation at a position of each chain, its table entry, and whether its sign is negative; int64."""
        limits = (len(AUGMIX_OPS), self.severity, 2)
        draws = [below(fold(chain_keys, 1 + 3 * position + part), limit) for part, limit in enumerate(limits)]
        return draws[0], draws[1], draws[2]

    def forward(self, images: Tensor, sizes: Tensor | None, keys: Tensor) -> Tensor:
        """Augment uint8 (B, 3, H, W) with valid `sizes` (B, 2) or None, each image by its key, int64 (B,)."""
        B = images.shape[0]
        chain_keys = self.chain_keys(keys)
        depths = self.depths(chain_keys)
        chains = images.repeat(self.width, 1, 1, 1)
        chain_sizes = None if sizes is None else sizes.repeat(self.width, 1)
        height, width = extents(chains, chain_sizes)
        for position in range(self.depth if self.depth > 0 else 3):
            chosen, level, negative = self.choose(chain_keys, position)
            entry = 2 * level + negative
            values = self._load("values", 2 * self.severity * chosen + entry).view(torch.float64)
            for name, extent in (("translate_x", width), ("translate_y", height)):
                pixels = level * extent // 27 * (1 - 2 * negative)  # linspace(0, extent / 3, 10)[level], rounded down
                values = torch.where(chosen == AUGMIX_OPS.index(name), pixels.double(), values)
            active = torch.where(depths > position, chosen, -1)
            rotation = self._load("rotations", entry)
            chains = apply_ops(AUGMIX_OPS, chains, active, values, chain_sizes, bilinear=True, rotation=rotation)
        weights = self.weights(keys).int()[:, :, None, None, None]
        mixed = images * weights[:, 0]
        for index, chain in enumerate(chains.view(self.width, B, *images.shape[1:]).unbind(0), start=1):
            mixed = mixed + chain * weights[:, index]
        return (mixed >> 16).to(torch.uint8)
