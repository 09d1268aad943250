"""What the tests of every network share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from fastnoisy.models.heads import Network


def _check(make: Callable[[], Network], size: int, batch: int = 2) -> None:
    torch.manual_seed(0)
    net, images = make(), torch.randn(batch, 3, size, size)
    net.train()
    logits, subs = net(images)
    labels = torch.arange(batch) % logits.shape[1]
    torch.stack([F.cross_entropy(z, labels) for z in (logits, *subs)]).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    other = make()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        one, two = net.eval()(images), other.eval()(images)
        assert torch.equal(one.logits, two.logits)
        assert len(one.sub_logits) == len(net.taps)
        assert all(torch.equal(a, b) for a, b in zip(one.sub_logits, two.sub_logits, strict=True))
        assert torch.equal(one.logits, net.backbone(images))
        torch.testing.assert_close(net.predict(images), (one.logits + one.sub_logits[-1]) / 2 if subs else one.logits)


@pytest.fixture
def check_a_step_and_the_state() -> Callable[[Callable[[], Network], int], None]:
    """Called with (a maker of networks, image size): a training step gives every parameter a finite gradient, and the
    state goes into another instance, which then says the same.
    """
    return _check
