"""What every method owes the loop: run on each that is found."""

from __future__ import annotations

import ast
import copy
import inspect
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from fastnoisy import methods
from fastnoisy.config import parse_call
from fastnoisy.methods._wrapper import Wrapper
from fastnoisy.methods.base import Context, Method, NoiseFacts, Progress, Record, StepBatch, TrainingSet

NAMES = methods.names()
FORMS = [*NAMES, *(f"alasca(base={name})" for name in NAMES if name not in ("alasca", "ce"))]
# One of each shape of step is compiled in the quick tests: a loss and an optimiser's mask, a memory in the loss, two
# views with a teacher, heads on two networks that select, several streams mixed over the batch.
QUICK = ["cdr", "elr", "nrd"]  # to compile
CONTEXT = Context(
    {"name": "preact_small", "width": 4}, num_classes=5, num_samples=40, seed=1, noise=NoiseFacts(0.4), batch_size=16
)


def build(name: str, dtype: torch.dtype = torch.float32) -> Method:
    torch.manual_seed(3)
    return methods.build(parse_call(name), replace(CONTEXT, memory_dtype=dtype)).to(dtype)


def batches(method: Method, seed: int = 0, size: int = 16, dtype: torch.dtype = torch.float32) -> dict[str, StepBatch]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (size,), generator=generator)
    images = torch.randn(size, 3, 16, 16, generator=generator) + labels.view(-1, 1, 1, 1)
    indices = torch.randperm(40, generator=generator)[:size]
    return {
        name: StepBatch(
            {view: (images + 0.1 * number).to(dtype) for number, view in enumerate(spec.views)}, labels, indices
        )
        for name, spec in method.streams.items()
    }


def steps(method: Method, count: int, compiled: bool = False, each_shape_once: bool = False) -> list[Record]:
    passes = {len(spec.streams): spec for spec in method.passes}.values() if each_shape_once else method.passes
    step = torch.compile(method.step, fullgraph=True, dynamic=False) if compiled else method.step
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    progress = Progress.start(10)
    records = []
    for number in range(count):
        progress.step.fill_(number)
        for spec in passes:
            data = batches(method, dtype=next(method.parameters()).dtype)
            method.train()
            method.before_pass(spec.name)
            record = step({stream: data[stream] for stream in spec.streams}, progress)
            record.loss.backward()
            method.after_backward(progress)
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(progress, torch.tensor(True))
            records.append(record)
    return records


@pytest.mark.parametrize("name", NAMES)
def test_it_documents_itself(name: str) -> None:
    cls = methods.find(name)
    first = (inspect.getdoc(cls) or "").splitlines()[0]
    assert 10 < len(first) < 200
    assert cls.suite in ("nrd", "alasca")
    for key, info in cls.Options.model_fields.items():
        assert info.description, f"option {key} of {name} says nothing of itself"


@pytest.mark.parametrize("name", FORMS)
def test_loss_and_gradients_are_finite_and_the_loss_falls(name: str) -> None:
    method = build(name)
    records = steps(method, 12)
    losses = [r.loss.item() for r in records]
    assert all(torch.isfinite(r.loss) for r in records)
    assert min(losses[-3:]) < losses[0]
    record = records[-1]
    for forward in record.forwards:
        assert forward.logits.shape == (len(forward.labels), 5)
        assert 0 <= forward.network < len(getattr(method, "base", method).networks)
    assert all(value.ndim == 0 and not value.requires_grad for value in record.logs.values())


@pytest.mark.parametrize("name", FORMS)
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    method.train()
    data = batches(method)
    progress = Progress.start(10)
    for spec in method.passes:
        method.step({s: data[s] for s in spec.streams}, progress).loss.backward()
    for key, parameter in method.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, key


@pytest.mark.parametrize("name", FORMS)
def test_a_step_under_autocast(name: str) -> None:
    """Networks run in bfloat16; losses, memories and what is selected by them do not, and agree with full precision."""
    method = build(name)
    method.train()
    data, progress = batches(method), Progress.start(10)
    full = copy.deepcopy(method)
    for spec in method.passes:
        part = {s: data[s] for s in spec.streams}
        with torch.autocast("cpu", torch.bfloat16):
            record = method.step(part, progress)
        expected = full.step(part, progress).loss
        assert record.loss.dtype == torch.float32
        record.loss.backward()
        assert (record.loss - expected).abs() < 0.1 * expected.abs() + 0.05
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert {k: v.dtype for k, v in method.state_dict().items()} == {k: v.dtype for k, v in full.state_dict().items()}


@pytest.mark.parametrize("name", FORMS)
def test_state_round_trips_and_training_goes_on_the_same(name: str) -> None:
    one = build(name)
    steps(one, 2)
    two = methods.build(parse_call(name), CONTEXT)  # other weights
    two.load_state_dict(one.state_dict())
    for (key, a), (_, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert torch.equal(a, b), key
    first, second = steps(one, 2)[-1].loss, steps(two, 2)[-1].loss
    assert torch.equal(first, second)


class Plain(Wrapper):
    """A wrapper that adds nothing."""


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapper_that_adds_nothing_is_its_base(name: str) -> None:
    """Steps, hooks, state, predictions and judgements are the base's, bit for bit."""
    base, inner = build(name), build(name)
    wrapper = Plain(CONTEXT, None, inner)
    assert (wrapper.streams, wrapper.passes, dict(wrapper.unsupported)) == (
        base.streams,
        base.passes,
        dict(base.unsupported),
    )
    assert wrapper.semi_supervised == base.semi_supervised
    assert wrapper.primary_network() is inner.primary_network()
    assert wrapper.networks is inner.networks
    for one, two in zip(steps(base, 2), steps(wrapper, 2), strict=True):
        assert torch.equal(one.loss, two.loss)
    state = wrapper.state_dict()
    assert list(state) == [f"base.{key}" for key in base.state_dict()]
    for key, tensor in base.state_dict().items():
        assert torch.equal(tensor, state[f"base.{key}"]), key
    images = torch.randn(40, 3, 16, 16)
    with torch.no_grad():
        expected, found = ({k: z.float() for k, z in m.eval().predictions(images).items()} for m in (base, wrapper))
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], z) for key, z in expected.items())
    training = TrainingSet(lambda: expected, torch.arange(40) % 5, torch.arange(40))
    assert torch.equal(wrapper.clean_probability(training), base.clean_probability(training))
    for epoch in (0, 40):
        assert wrapper.plan(epoch) == base.plan(epoch)
        one, two = base.before_epoch(epoch, training), wrapper.before_epoch(epoch, training)
        assert {key: rows.tolist() for key, rows in two.items()} == {key: rows.tolist() for key, rows in one.items()}


@pytest.mark.parametrize("name", FORMS)
def test_predictions_and_clean_probability(name: str) -> None:
    method = build(name)
    steps(method, 1)
    method.eval()
    images = torch.randn(40, 3, 16, 16)
    with torch.no_grad():
        found = {key: z.float() for key, z in method.predictions(images).items()}
    assert all(z.shape == (40, 5) for z in found.values())
    torch.testing.assert_close(method.predict(images), next(iter(found.values())))
    probability = method.clean_probability(TrainingSet(lambda: found, torch.arange(40) % 5, torch.arange(40)))
    assert probability.shape == (40,)
    assert ((probability >= 0) & (probability <= 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_clean_labels_cannot_be_reached(name: str) -> None:
    """A method's file imports nothing that holds them, and nothing that it is handed does."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(methods.find(name))))  # type: ignore[arg-type]
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "fastnoisy":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fastnoisy."):
            rooms.add(node.module.split(".")[1])
        assert not isinstance(node, ast.Attribute) or "clean_labels" not in node.attr
    assert rooms <= {
        "losses",
        "methods",
        "models",
        "config",
        "errors",
        "sample_memory",
        "mixing",
        "keyed_random",
        "distributed",
    }
    handed = [*Context.__dataclass_fields__, *StepBatch.__dataclass_fields__, *Progress.__dataclass_fields__]
    assert not [field for field in handed if "clean" in field]


@pytest.mark.parametrize("name", FORMS)
def test_time_comes_in_as_tensors_so_that_nothing_recompiles(name: str) -> None:
    """A step traces to one graph that serves every epoch: no graph break, no recompilation at a ramp or correction."""
    method = build(name)
    method.train()
    torch._dynamo.reset()
    counter = CompileCounter()
    step = torch.compile(method.step, backend=counter, fullgraph=True, dynamic=False)
    data = batches(method)
    progress = Progress.start(40)
    for epoch in (0, 5, 22, 35):
        for spec in method.passes:
            method.train()
            method.before_pass(spec.name)
            progress.move(epoch, epoch, 40)
            step({s: data[s] for s in spec.streams}, progress)
    assert counter.frame_count == len(method.passes)
    torch._dynamo.reset()


@pytest.mark.compiler
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FORMS]
)
def test_a_compiled_step_equals_the_eager_one(name: str) -> None:
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        method = build(name, torch.float64)
        records = steps(method, 2, compiled, each_shape_once=True)
        found.append((torch.stack([record.loss for record in records]), method.state_dict()))
    torch._dynamo.reset()
    (losses, state), (compiled_losses, compiled_state) = found
    torch.testing.assert_close(compiled_losses, losses, rtol=0, atol=1e-8)
    for key, tensor in state.items():
        torch.testing.assert_close(
            compiled_state[key], tensor, rtol=0, atol=1e-8, msg=lambda text, k=key: f"{k}: {text}"
        )
