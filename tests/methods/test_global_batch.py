"""What runs over the global batch gives on several ranks what it gives on one: losses, gradients, selections, memories.

Ranks are threads here, each with a method of its own; networks run in evaluation mode, so that BatchNorm sees no batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from fastnoisy import keyed_random, methods, mixing
from fastnoisy.config import parse_call
from fastnoisy.distributed import ONE, Group
from fastnoisy.methods.base import Context, Method, NoiseFacts, Progress, Record, StepBatch
from fastnoisy.sample_memory import SampleMemory

T = TypeVar("T")
SIZE = 16
CONTEXT = Context(
    {"name": "preact_small", "width": 4}, num_classes=5, num_samples=60, seed=1, noise=NoiseFacts(0.4), batch_size=SIZE,
    memory_dtype=torch.float64,
)  # fmt: skip
PARTS = [(16,), (8, 8), (9, 7), (3, 8, 5)]
FORMS = [
    "mixup", "co-teaching", "decoupling", "decoupling(rule=alasca)", "jocor", "dividemix", "elr-plus",
    "gce(truncate=0.1)",
    "elr", "nrd", "cdr",
]  # fmt: skip
FORMS += ["alasca(lca_start=0)", *(f"alasca(lca_start=0, base={form})" for form in FORMS)]


@dataclass
class Meeting:
    """Where threads put what they have and take what all have."""

    size: int
    given: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.given = [torch.empty(0)] * self.size
        self.gate = threading.Barrier(self.size, timeout=60)

    def exchange(self, rank: int, value: Tensor) -> list[Tensor]:
        self.given[rank] = value.detach()
        self.gate.wait()
        taken = list(self.given)
        self.gate.wait()  # nobody writes the next before all have read
        return taken


class Threads(Group):
    """A rank among threads."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size, self.meeting = rank, meeting.size, meeting

    def gather(self, values: Tensor) -> Tensor:
        return torch.cat(self.meeting.exchange(self.rank, values))

    def sum(self, value: Tensor) -> Tensor:
        return torch.stack(self.meeting.exchange(self.rank, value)).sum(dim=0)

    def agree(self, flag: Tensor) -> Tensor:
        return torch.stack(self.meeting.exchange(self.rank, flag)).all()

    def barrier(self) -> None:
        self.meeting.gate.wait()


def on_ranks(size: int, run: Callable[[Group], T]) -> list[T]:
    """What `run` gives on each rank, in a thread each."""
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, threads(size)))


def threads(size: int) -> list[Group]:
    meeting = Meeting(size)
    return [Threads(rank, meeting) for rank in range(size)]


def build(name: str, group: Group) -> Method:
    torch.manual_seed(3)
    method = methods.build(parse_call(name), replace(CONTEXT, group=group)).to(torch.float64).eval()
    for key, buffer in method.named_buffers():  # as after a split, for DivideMix; as after some epochs, for memories
        if key.endswith(("clean", "rows")):
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(5)))
    for network in method.modules():  # not all alike, so that nothing is decided by rounding
        if isinstance(network, torch.nn.Linear):
            network.weight.data.mul_(3)
    return method


def batches(method: Method, first: int, count: int) -> dict[str, StepBatch]:
    """Rows `first` to `first + count` of each stream's global batch."""
    found = {}
    for number, (name, spec) in enumerate(method.streams.items()):
        generator = torch.Generator().manual_seed(number)
        labels = torch.randint(5, (SIZE,), generator=generator)
        images = torch.randn(SIZE, 3, 16, 16, generator=generator, dtype=torch.float64) + labels.view(-1, 1, 1, 1)
        indices = torch.randperm(20, generator=generator)[:SIZE] + 20 * (number % 3)
        own = slice(first, first + count)
        views = {
            view: (images + 0.3 * torch.randn(images.shape, generator=generator, dtype=torch.float64))[own]
            for view in spec.views
        }
        found[name] = StepBatch(views, labels[own], indices[own])
    return found


def trained(method: Method, parts: tuple[int, ...]) -> tuple[list[Record], list[Tensor]]:
    """Two steps' records of each pass without an optimiser, and the gradients, weighted as a step weights them."""
    group, progress = method.group, Progress.start(10)
    data = batches(method, sum(parts[: group.rank]), parts[group.rank])
    records = []
    for step in range(2):
        progress.move(4, step, 2)
        for spec in method.passes:
            record = method.step({stream: data[stream] for stream in spec.streams}, progress)
            (record.loss * (parts[group.rank] / SIZE)).backward()
            records.append(record)
    return records, [torch.zeros(()) if p.grad is None else p.grad for p in method.parameters()]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("parts", PARTS[1:], ids=str)
def test_ranks_together_are_one_process(name: str, parts: tuple[int, ...]) -> None:
    whole = build(name, ONE)
    expected, gradients = trained(whole, (SIZE,))
    built = {group.rank: build(name, group) for group in threads(len(parts))}
    found = on_ranks(len(parts), lambda group: trained(built[group.rank], parts))
    for number, record in enumerate(expected):
        ranks = [records[number] for records, _ in found]
        loss = sum(one.loss.detach() * (count / SIZE) for one, count in zip(ranks, parts, strict=True))
        torch.testing.assert_close(loss, record.loss.detach(), rtol=1e-10, atol=1e-12)
        for key in ("kept", "same_selection", "disagreement"):
            if key in record.logs:  # of the selection, which all ranks know alike
                assert all(torch.equal(one.logs[key], record.logs[key]) for one in ranks), key
        for key, value in record.logs.items():
            mean = sum(one.logs[key].detach().double() * (n / SIZE) for one, n in zip(ranks, parts, strict=True))
            torch.testing.assert_close(mean, value.detach().double(), rtol=1e-6, atol=1e-6, msg=key)
    for number, gradient in enumerate(gradients):
        together = torch.stack([each[number] for _, each in found]).sum(dim=0)
        torch.testing.assert_close(together, gradient, rtol=1e-8, atol=1e-10)
    check_memories(whole, list(built.values()))


def check_memories(whole: Method, ranks: list[Method]) -> None:
    """Each rank has written its own samples' rows, to what one process has written there."""
    for key, memory in whole.named_modules():
        if isinstance(memory, SampleMemory):
            start = build_rows(memory)
            merged = start.clone()
            for method in ranks:
                rows = method.get_submodule(key).rows  # type: ignore[union-attr]
                moved = (rows != start).any(dim=1)  # type: ignore[union-attr]
                merged[moved] = rows[moved]  # type: ignore[index]
            torch.testing.assert_close(merged, memory.rows, rtol=1e-10, atol=1e-12)
            assert not torch.equal(merged, start)


def build_rows(memory: SampleMemory) -> Tensor:
    start = torch.empty_like(memory.rows)
    return start.copy_(torch.rand(memory.rows.shape, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_partners_are_one_permutation_of_the_global_batch(parts: tuple[int, ...]) -> None:
    """Of two parts per rank, each of the ranks' rows: the same pairs as in one process, at their places among the
    ranks'.
    """
    key = torch.tensor(keyed_random.key(1, 2))
    alone = mixing.partners(key, ONE, SIZE, SIZE)
    starts = [sum(parts[:rank]) for rank in range(len(parts))]

    def run(group: Group) -> tuple[Tensor, Tensor]:
        count = parts[group.rank]
        names = torch.cat([torch.arange(count) + starts[group.rank] + part * SIZE for part in range(2)])
        return names, group.gather(names)[mixing.partners(key, group, count, count)]

    for own, partners in on_ranks(len(parts), run):
        assert torch.equal(partners, alone[own])


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_what_a_group_does(parts: tuple[int, ...]) -> None:
    rows = torch.arange(SIZE * 2.0).view(SIZE, 2)

    def run(group: Group) -> None:
        first, count = sum(parts[: group.rank]), parts[group.rank]
        own = rows[first : first + count].clone().requires_grad_()
        assert torch.equal(group.gather(own), rows)
        assert not group.gather(own).requires_grad
        assert torch.equal(group.own(rows, count), own)
        assert group.sum(torch.tensor(group.rank + 1)).item() == sum(range(1, group.size + 1))
        assert group.agree(torch.tensor(True))
        assert not group.agree(torch.tensor(group.rank != group.size - 1))
        group.barrier()
        mean = group.mean(own)
        torch.testing.assert_close(mean, rows.mean(dim=0))
        (mean.sum() * (count / SIZE)).backward()
        torch.testing.assert_close(own.grad, torch.full_like(own, 1 / SIZE))
        part = group.part(own.detach().sum(), count, SIZE)
        torch.testing.assert_close(group.sum(part * (count / SIZE)), rows.sum())

    on_ranks(len(parts), run)
    if len(parts) == 1:
        run(ONE)
        assert ONE.gather(rows).data_ptr() == ONE.own(rows, SIZE).data_ptr() == rows.data_ptr()
