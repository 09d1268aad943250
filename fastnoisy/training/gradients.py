"""The sum of the ranks' gradients, in buckets that travel while the backward goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastnoisy.distributed import Pending, Ranks

BUCKET_BYTES = 25 << 20  # as DDP's: large enough for the bandwidth, small enough to start early


class GradientSum:
    """Sums `.grad` of parameters over the ranks; losses are weighted by the ranks' shares, so the sum is exact.

    `arm` before a step's last backward: each bucket is sent when the last of its gradients is complete, the buckets in
    the same order on all ranks. `finish` sends what is left (a network that does not train in this pass has no
    gradients) and writes the sums.

    Args:
        parameters: all that are optimised; they are taken from the back, as a backward reaches them.
        whole: send everything in one piece after the backward: a compiled one gives all gradients at its end.
        compress: send bfloat16: half the bytes, 8 bits of precision.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], group: Ranks, whole: bool = False, compress: bool = False
    ) -> None:
        self.group, self.compress = group, compress
        self.buckets: list[list[nn.Parameter]] = []
        size, kind = BUCKET_BYTES, None
        for parameter in reversed(parameters):
            # one flat tensor has one dtype and one device
            if (size >= BUCKET_BYTES and not whole) or kind != (parameter.dtype, parameter.device):
                self.buckets.append([])
                size, kind = 0, (parameter.dtype, parameter.device)
            self.buckets[-1].append(parameter)
            size += parameter.numel() * parameter.element_size()
        self._where = {id(p): number for number, bucket in enumerate(self.buckets) for p in bucket}
        self._armed = False
        self._missing: list[int] = []
        self._sent: list[tuple[list[Tensor], Pending]] = []
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._ready)

    def arm(self) -> None:
        """The backward that comes is the step's last."""
        self._missing = [len(bucket) for bucket in self.buckets]
        self._armed = True

    def _ready(self, parameter: Tensor) -> None:
        """A gradient is complete."""
        if not self._armed:
            return
        self._missing[self._where[id(parameter)]] -= 1
        while len(self._sent) < len(self.buckets) and self._missing[len(self._sent)] == 0:
            self._send()

    @torch.no_grad()
    def _send(self) -> None:
        gradients = [p.grad for p in self.buckets[len(self._sent)] if p.grad is not None]
        if not gradients:
            self._sent.append(([], Pending(lambda: torch.empty(0))))
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        flat = flat.bfloat16() if self.compress else flat
        self._sent.append((gradients, self.group.begin_sum(flat)))

    @torch.no_grad()
    def finish(self) -> None:
        """Wait for the sums and write them into the gradients."""
        while len(self._sent) < len(self.buckets):
            self._send()
        for gradients, pending in self._sent:
            flat = pending.take()
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view(gradient.shape))
        self._sent, self._armed = [], False
