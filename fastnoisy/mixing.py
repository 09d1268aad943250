"""Mixing inputs with partners from the same global batch: partners and weights as pure functions of a key.

A key is a 0-dimensional int64 tensor made with `fastnoisy.keyed_random` of the run's seed, a name, the epoch and the
step, so that a run that goes on mixes as it would have. Nothing here synchronises the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fastnoisy import keyed_random
from fastnoisy.distributed import Group

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


def partners(key: Tensor, group: Group, *parts: int) -> Tensor:
    """With which row of the global batch each own row is mixed: a uniformly drawn permutation of all ranks' rows.

    Args:
        parts: of how many rows of this rank each part of a batch consists; parts follow one another (two views of a
            stream, two streams). The permutation is one of the global batch's parts, so it does not depend on how many
            ranks share them.

    Returns:
        int64 (sum of `parts`,): positions in the rows of all ranks as `group.gather` joins them.
    """
    if group.size == 1:
        return _permutation(key, sum(parts))
    numbers = torch.cat([torch.full((n,), number, device=key.device) for number, n in enumerate(parts)])
    places = torch.argsort(
        group.gather(numbers), stable=True
    )  # where the rows of the global batch's parts are, in order
    found = torch.empty_like(places).scatter_(0, places, places[_permutation(key, len(places))])
    return group.own(found, sum(parts))


def _permutation(key: Tensor, size: int) -> Tensor:
    places = torch.arange(size, device=key.device)
    return torch.argsort(keyed_random.fold(keyed_random.fold(key, 1), places), stable=True)


def mix(values: Tensor, others: Tensor, weight: Tensor, group: Group) -> Tensor:
    """weight * own row + (1 - weight) * partner's row, (B_r, ...).

    Args:
        values: (B_r, ...) float, this rank's rows; the partners' come from all ranks, without gradient.
        others: (B_r,) int64, as from `partners`.
        weight: 0-dimensional, of the own row; or one that broadcasts against the values.
    """
    weight = weight.to(values.dtype)
    return weight * values + (1 - weight) * group.gather(values).index_select(0, others)
