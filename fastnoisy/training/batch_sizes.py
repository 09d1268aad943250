"""Whether batches can be cut as a run cuts them: into micro-batches, and these into the ranks' parts."""

from __future__ import annotations

from torch import Tensor

from fastnoisy.config import Config
from fastnoisy.distributed import Group
from fastnoisy.errors import FastnoisyError
from fastnoisy.methods.base import Method


def check(c: Config, count: int, method: Method, group: Group) -> None:
    """Every rank needs a sample of every micro-batch, the last batch's included; where statistics are taken of what it
    has, two.

    Args:
        count: samples of an epoch.

    Raises:
        FastnoisyError: a batch is too small.
    """
    rest = 0 if c.drop_last else count % c.batch_size
    taken = any(isinstance(getattr(m, "running_var", None), Tensor) and m.training for m in method.train().modules())
    together = group.size > 1 and c.distributed.sync_batchnorm
    least = 2 if taken and not together else 1
    cut = [f"accumulate={c.accumulate}"] if c.accumulate > 1 or group.size == 1 else []
    cut += [f"{group.size} processes"] if group.size > 1 else []
    less = f"less than {('one', 'two')[least - 1]} each"
    fewer = ", or lower accumulate" if c.accumulate > 1 else ""
    fewer += ", or start fewer processes" if group.size > 1 else ""
    if c.batch_size // c.accumulate // group.size < least:
        raise FastnoisyError(
            f"batch_size={c.batch_size} is cut by {' and '.join(cut)} into {less}", f"Raise batch_size{fewer}"
        )
    if rest and rest // c.accumulate // group.size < least:
        raise FastnoisyError(
            f"the last batch of {count} images has {rest} samples, cut by {' and '.join(cut)} into {less}",
            f"Set drop_last=true or choose another batch_size{fewer}",
        )
