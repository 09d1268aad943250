"""Mixing inputs with partners from the same batch: partners and weights as pure functions of a key.

A key is a 0-dimensional int64 tensor made with `fastnoisy.keyed_random` of the run's seed, a name, the epoch and the step,
so that a run that goes on mixes as it would have. Nothing here synchronises the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fastnoisy import keyed_random

_LEVELS = 1 << 16


class BetaWeights(nn.Module):
    """Draws from Beta(alpha, alpha): an integer looks up a float64 quantile that was made on the host.

    Args:
        alpha: above 0.
        larger: draw max(lam, 1 - lam), as semi-supervised methods do, whose own input shall dominate.
    """

    bits: Tensor

    def __init__(self, alpha: float, larger: bool = False) -> None:
        from scipy.special import betaincinv  # a tenth of a second to import, which every listing of methods would pay

        super().__init__()
        quantiles = betaincinv(alpha, alpha, (np.arange(_LEVELS) + 0.5) / _LEVELS)
        quantiles = np.maximum(quantiles, 1 - quantiles) if larger else quantiles
        # kept as the integers that have these bits, which a change of the module's precision leaves alone
        self.register_buffer("bits", torch.from_numpy(quantiles.view(np.int64)), persistent=False)

    def forward(self, key: Tensor) -> Tensor:
        """One weight for a batch, 0-dimensional float64, for a key (0-dimensional int64)."""
        place = keyed_random.below(keyed_random.fold(key, 0), _LEVELS)
        return self.bits.index_select(0, place.reshape(1)).view(torch.float64).squeeze(0)


def partners(key: Tensor, size: int) -> Tensor:
    """A uniformly drawn permutation of `size` places, int64 (size,)."""
    places = torch.arange(size, device=key.device)
    return torch.argsort(keyed_random.fold(keyed_random.fold(key, 1), places), stable=True)


def mix(values: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """share * values + (1 - share) * values[others]; values (B, ...) float, others (B,) int64, share 0-dimensional."""
    share = share.to(values.dtype)
    return share * values + (1 - share) * values.index_select(0, others)
