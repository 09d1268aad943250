"""Every executor gives the reference's bits: uint8 images, results of every dtype and memory order, any program.

Where there is no GPU, the fused kernels are run by Triton's interpreter, which takes its time.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnoisy import keyed_random
from fastnoisy.augment import View, executors, geometry, ops, parse_view, step_names
from fastnoisy.augment.executors import codes
from fastnoisy.augment.registry import REQUIRED, STEPS, Parameter, Step, StepType
from fastnoisy.augment.steps import get_step
from fastnoisy.errors import FastnoisyError

MEAN_STD: dict[str, Any] = {"mean": (0.49, 0.48, 0.44), "std": (0.2, 0.21, 0.22)}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SIDES = (1, 2, 3, 5, 7, 16, 21, 32, 45, 64)
VALUES = {
    "rotate": 200.0, "posterize": 9.0, "solarize": 260.0, "solarize_add": 120.0, "color": 3.0, "contrast": 3.0,
    "brightness": 3.0, "sharpness": 3.0, "shear_x": 0.6, "shear_y": 0.6, "translate_x": 40.0, "translate_y": 40.0,
    "cutout_abs": 40.0, "hue": 0.5,
}  # fmt: skip
WHOLE = {  # a program of every recipe's kind, and of steps that are rare
    "student": "randaugment(n=1, m=3) | random_crop(32, padding=4) | hflip | normalize | cutout(5)",
    "teacher": "augmix | random_crop(32, padding=4) | hflip | normalize",
    "photographs": "random_resized_crop(24) | hflip | color_jitter | normalize | random_erasing",
    "whole image first": "augmix | random_resized_crop(24) | hflip | normalize",
    "eval": "resize_shorter(28) | center_crop(24) | normalize",
    "autoaugment": "random_crop(32, padding=4) | hflip | autoaugment | normalize | cutout(16)",
    "torchvision": "torchvision_randaugment(n=3, m=9) | google_augmix(all_ops=True) | normalize",
    "many": "randaugment(n=4, m=20) | resize(40) | color_jitter(hue=0.5) | normalize | cutout(8) | cutout(4)",
}


FAST = ("cpu", "cuda")
executors_ = pytest.mark.parametrize("executor", FAST)


def on(executor: str) -> torch.device:
    """Where an executor's images lie in these tests."""
    return torch.device("cuda" if executor == "cuda" and torch.cuda.is_available() else "cpu")


def both(program: str, executor: str, name: str = "student", **options: Any) -> tuple[View, View]:
    parsed = parse_view(program)
    made = [parsed.build(name, **MEAN_STD, **options, executor=by) for by in ("reference", executor)]
    assert [view.executor for view in made] == ["reference", executor]
    return made[0], made[1].to(on(executor))


def images_of(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Noise, flat and smooth images."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 256, (count, 3, height, width))
    narrow = draw.integers(0, 200, (count, 3, 1, 1)) + draw.integers(0, 56, (count, 3, height, width))
    y, x = np.mgrid[:height, :width]
    slopes = draw.uniform(-6, 6, (2, count, 3, 1, 1))
    smooth = np.clip(128 + slopes[0] * (y - height / 2) + slopes[1] * (x - width / 2), 0, 255)
    flat = np.zeros_like(noise) + draw.integers(0, 256, (count, 3, 1, 1))
    kind = (np.arange(count) % 4)[:, None, None, None]
    return torch.from_numpy(
        np.select([kind == 0, kind == 1, kind == 2], [noise, narrow, smooth], flat).astype(np.uint8)
    )


def sizes_of(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Valid areas, the smallest and the whole among them."""
    draw = np.random.default_rng(seed)
    sizes = np.stack([draw.integers(1, side + 1, count) for side in (height, width)], 1).reshape(count, 2)
    sizes[:1], sizes[1:2] = (1, 1), (height, width)
    return torch.from_numpy(sizes.astype(np.int32))


def assert_equal(reference: View, fast: View, images: torch.Tensor, sizes: Any, indices: Any, key: int) -> None:
    where = on(fast.executor)
    there = images.to(where), None if sizes is None else sizes.to(where), indices.to(where), key
    wanted, found = reference.uint8(images, sizes, indices, key), fast.uint8(*there).cpu()
    assert torch.equal(wanted, found)
    wanted, found = reference(images, sizes, indices, key), fast(*there).cpu()
    assert found.dtype == wanted.dtype
    assert found.stride() == wanted.stride()
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[wanted.element_size()]
    assert torch.equal(wanted.view(bits), found.view(bits))


def some(executor: str, images: torch.Tensor, most: int) -> torch.Tensor:
    """All images, or so many where Triton's interpreter works on them one by one."""
    return images[:most] if executor == "cuda" and on(executor).type == "cpu" else images


@st.composite
def arguments(draw: Any, parameter: Parameter, name: str) -> Any:
    """Anything that a parameter allows, within what a test can hold."""
    low, high = max(parameter.low, -4.0), min(parameter.high, 6.0)
    if parameter.choices:
        return draw(st.sampled_from(parameter.choices))
    if parameter.name == "value" and name in VALUES:
        bound = VALUES[name]
        return draw(st.floats(-bound, bound) | st.integers(int(-bound), int(bound)).map(float))
    if parameter.name == "size":
        return draw(st.sampled_from((4, 7, 16, 33, 50)))
    if parameter.kind == "switch":
        return draw(st.booleans())
    if parameter.kind == "integer":
        return draw(st.integers(int(max(low, 0)), int(high)))
    if parameter.kind == "number":
        return draw(st.floats(max(low, 0.0), min(high, 2.0)))
    if parameter.kind == "colour":
        return draw(st.tuples(*[st.integers(0, 255)] * 3))
    assert parameter.kind == "range", f"a kind of parameter that this test does not know: {parameter.kind}"
    bounds = st.floats(max(parameter.low, 0.01), min(parameter.high, 4.0))
    return tuple(sorted((draw(bounds), draw(bounds))))


@st.composite
def calls(draw: Any, stage: str) -> str:
    name = draw(st.sampled_from([name for name in step_names() if get_step(name).stage == stage]))
    given_ = {
        parameter.name: draw(arguments(parameter, name))
        for parameter in get_step(name).parameters
        if parameter.default is REQUIRED or draw(st.booleans())
    }
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given_.items())})" if given_ else name


@st.composite
def any_program(draw: Any) -> str:
    before = draw(st.lists(calls("uint8"), min_size=1, max_size=4))
    return " | ".join([*before, "normalize", *draw(st.lists(calls("float"), max_size=2))])


def check_any_program(data: st.DataObject, executor: str, sides: tuple[int, ...], most: int) -> None:
    program = data.draw(any_program(), label="program")
    height, width = (data.draw(st.sampled_from(sides)) for _ in range(2))
    count, seed = data.draw(st.integers(0, most), label="images"), data.draw(st.integers(0, 99))
    images = images_of(count, height, width, seed)
    if data.draw(st.booleans()):
        images = images.contiguous(memory_format=torch.channels_last)
    sizes = sizes_of(count, height, width, seed) if data.draw(st.booleans()) else None
    pair = both(program, executor, dtype=data.draw(st.sampled_from(DTYPES)), channels_last=data.draw(st.booleans()))
    indices = torch.from_numpy(np.random.default_rng(seed).integers(0, 1 << 40, count))
    torch.set_num_threads(data.draw(st.sampled_from((1, 2))))
    assert_equal(*pair, images, sizes, indices, data.draw(st.integers(-(1 << 63), (1 << 63) - 1)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_program_on_the_cpu(data: st.DataObject) -> None:
    check_any_program(data, "cpu", SIDES, 9)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_many_programs_on_the_cpu(data: st.DataObject) -> None:
    check_any_program(data, "cpu", (*SIDES, 131, 512), 9)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_program_in_the_fused_kernel(data: st.DataObject) -> None:
    check_any_program(data, "cuda", (1, 2, 5, 21, 32, 45), 3)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_many_programs_in_the_fused_kernel(data: st.DataObject) -> None:
    check_any_program(data, "cuda", SIDES, 4)


@executors_
@pytest.mark.parametrize("name", step_names())
def test_every_step_is_executed(name: str, executor: str) -> None:
    """So whoever adds one is told whether the executors have it."""
    needed = {"value": VALUES.get(name, 1.0) / 3, "size": 16, "length": 6, "n": 2, "m": 9}
    kind = get_step(name)
    words = [f"{p.name}={needed[p.name]}" for p in kind.parameters if p.default is REQUIRED]
    text = f"{name}({', '.join(words)})"
    program = text if kind.stage == "normalize" else f"{text} | normalize"
    program = f"normalize | {text}" if kind.stage == "float" else program
    for height, width in ((21, 26), (40, 33)):  # in registers, and in scratch memory
        images, sizes = some(executor, images_of(8, height, width), 3), sizes_of(8, height, width)
        sizes = sizes[-len(images) :]
        assert_equal(*both(program, executor), images, sizes, torch.arange(len(images)), 5)


@pytest.mark.parametrize("program", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "side", [32, pytest.param(200, marks=pytest.mark.slow), pytest.param(512, marks=pytest.mark.slow)]
)
def test_programs_of_recipes(program: str, side: int) -> None:
    height, width = side, side - side // 8
    images, sizes = images_of(12, height, width), sizes_of(12, height, width)
    for dtype, channels_last, valid in itertools.product(DTYPES, (False, True), (sizes, None)):
        pair = both(program, "cpu", dtype=dtype, channels_last=channels_last)
        assert_equal(*pair, images, valid, torch.arange(12) * 7, keyed_random.key(1, 3))


@pytest.mark.parametrize("program", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize(
    "side", [30, pytest.param(150, marks=pytest.mark.slow), pytest.param(512, marks=pytest.mark.slow)]
)
def test_programs_of_recipes_in_the_fused_kernel(program: str, side: int) -> None:
    height, width = side, side - side // 8
    images, sizes = images_of(3, height, width), sizes_of(3, height, width)
    for number, dtype in enumerate(DTYPES):
        pair = both(program, "cuda", dtype=dtype, channels_last=number % 2 == 1)
        valid = None if number == 1 else sizes
        assert_equal(*pair, images, valid, torch.arange(3) * 7 + number, keyed_random.key(1, 3))


@executors_
def test_a_sample_is_the_same_in_any_batch_and_order(executor: str) -> None:
    _, view = both(WHOLE["teacher"], executor)
    count = 40 if executor == "cpu" else 10
    images, rows = images_of(count, 32, 32).to(on(executor)), torch.arange(count, device=on(executor))
    whole = view(images, None, rows, 9)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(rows.device)
    assert torch.equal(view(images[order], None, rows[order], 9), whole[order])
    parts = [view(images[i : i + 7], None, rows[i : i + 7], 9) for i in range(0, count, 7)]
    assert torch.equal(torch.cat(parts), whole)
    ranks = [view(images[rank::2], None, rows[rank::2], 9) for rank in range(2)]
    assert all(torch.equal(ranks[rank], whole[rank::2]) for rank in range(2))


def test_nor_does_it_depend_on_the_number_of_threads() -> None:
    _, view = both(WHOLE["teacher"], "cpu")
    images, rows = images_of(40, 32, 32), torch.arange(40)
    whole = view(images, None, rows, 9)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert torch.equal(view(images, None, rows, 9), whole)


# -- exactness of single formulas -------------------------------------------------------------------------------------


@executors_
def test_blends_round_as_the_reference(executor: str) -> None:
    """65,536 colours with every pair of red and green, by factors of the tables and odd ones."""
    draw = np.random.default_rng(1)
    factors = [0.0, 0.1, 0.19, 0.28, 0.46, 0.9, 1.0, 1.18, 1.9, -0.5, 3.0, 1e-9, *draw.uniform(-0.5, 3.0, 6)]
    factors = factors if executor == "cpu" else [0.1, 1.9, float(draw.uniform(-0.5, 3.0))]
    levels = draw.integers(0, 256, (3, 256, 256))
    levels[0], levels[1] = np.arange(256)[:, None], np.arange(256)[None]
    images = torch.from_numpy(levels.astype(np.uint8))[None]
    for name, factor in itertools.product(("color", "contrast", "brightness", "sharpness"), factors):
        assert_equal(*both(f"{name}({float(factor)!r}) | normalize", executor), images, None, torch.arange(1), 0)


@executors_
def test_hue_of_every_colour(executor: str) -> None:
    """A sixteenth of all colours, by two shifts."""
    red, green, blue = np.meshgrid(np.arange(0, 256), np.arange(0, 256, 4), np.arange(0, 256, 4), indexing="ij")
    images = torch.from_numpy(np.stack([red, green, blue]).reshape(1, 3, 1024, 1024).astype(np.uint8))
    images = images if executor == "cpu" else images[:, :, :256]
    for shift in (0.0, -0.31):
        assert_equal(*both(f"hue({shift}) | normalize", executor), images, None, torch.arange(1), 0)


@executors_
@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("value", [1e9, -1e9, 8192.0, 7281.7778, -3276.8, 4096.5, 1e-9, 0.5, -0.5, 1.5])
def test_maps_by_any_number(value: float, bilinear: bool, executor: str) -> None:
    images = some(executor, images_of(8, 21, 26), 3)
    sizes = sizes_of(8, 21, 26)[: len(images)]
    for name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        program = f"{name}({value}, bilinear={bilinear}, fill=(1, 2, 3)) | normalize"
        assert_equal(*both(program, executor), images, sizes, torch.arange(len(images)), 0)


@executors_
@pytest.mark.parametrize(
    ("program", "canvas"),
    [
        ("randaugment(n=16, m=30) | normalize", (9, 14)),
        ("augmix(severity=10, width=9, depth=2) | normalize", (12, 9)),
        ("google_augmix(severity=10, width=3, depth=10, all_ops=True) | normalize", (12, 9)),
        ("resize(1) | normalize", (40, 3)),
        ("random_resized_crop(2, scale=(0.001, 0.002), ratio=(0.25, 4.0)) | normalize", (40, 50)),
        ("random_resized_crop(300) | normalize", (5, 7)),
        ("resize_shorter(4) | center_crop(4) | normalize", (2, 300)),
        ("resize_shorter(40) | normalize", (1, 300)),
        ("resize_shorter(40) | center_crop(33) | normalize", (300, 1)),
        ("center_crop(50) | random_crop(60, padding=1) | normalize", (7, 90)),
        ("rotate(33, bilinear=True, fill=(9, 8, 7)) | shear_y(0.7) | normalize", (3, 700)),
        ("normalize | random_erasing(p=1.0, scale=(0.0, 0.0)) | cutout(200)", (5, 5)),
        ("normalize | cutout(0) | random_erasing(p=0.5)", (5, 5)),
        ("normalize | random_erasing(p=1.0, scale=(0.9, 1.0), ratio=(1.0, 1.0), value=-2.5)", (8, 8)),
        ("hue(10000000.0) | normalize", (5, 7)),
        pytest.param("resize_shorter(256) | center_crop(224) | normalize", (4096, 1), marks=pytest.mark.slow),
    ],
)
def test_corners_of_programs(program: str, canvas: tuple[int, int], executor: str) -> None:
    images = some(executor, images_of(12, *canvas), 2)
    sizes, rows = sizes_of(12, *canvas)[-len(images) :], torch.arange(-6, 6)[: len(images)]
    pair = both(program, executor)
    for valid in (sizes.T.contiguous().T, None):  # in no order of memory
        assert_equal(*pair, images, valid, rows, 1)
    assert_equal(*pair, images[:, :, ::2, ::2], None, torch.arange(24)[::2][: len(images)], 1)


# -- what is not an image, or not for them ----------------------------------------------------------------------------


@executors_
def test_what_would_be_read_beyond_is_refused(executor: str) -> None:
    for view in both(WHOLE["student"], executor):
        images, rows = images_of(8, 32, 32), torch.arange(8)
        for call in (view, view.uint8):
            with pytest.raises(FastnoisyError, match=r"a view of 8 images takes sizes \(8, 2\), got \(4, 2\)"):
                call(images, torch.ones((4, 2), dtype=torch.int32), rows, 0)
            with pytest.raises(FastnoisyError, match=r"indices \(8,\), got \(1,\)"):
                call(images, None, rows[:1], 0)
            with pytest.raises(FastnoisyError, match="uint8"):
                call(images.float(), None, rows, 0)
    beyond, where = torch.tensor([[40, 0]] * 8, dtype=torch.int32), on(executor)
    made = both(WHOLE["student"], executor)[1](images.to(where), beyond.to(where), rows.to(where), 0)
    assert made.isfinite().all()


@executors_
def test_too_large_a_canvas_is_refused(executor: str) -> None:
    images = torch.zeros((1, 3, 1, geometry.MAX_CANVAS + 1), dtype=torch.uint8)
    for view in both("rotate(10) | normalize", executor):
        with pytest.raises(FastnoisyError, match="Affine maps take up to 4096"):
            view.cpu()(images, None, torch.arange(1), 0)


@executors_
def test_it_can_be_copied_and_goes_to_other_processes(executor: str) -> None:
    _, view = both(WHOLE["teacher"], executor)
    images, rows = images_of(6, 32, 32).to(on(executor)), torch.arange(6, device=on(executor))
    wanted = view(images, None, rows, 4)
    for other in (copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
        assert torch.equal(other(images, None, rows, 4), wanted)


# -- what they do not have --------------------------------------------------------------------------------------------


@executors_
def test_an_unknown_step_goes_to_the_reference_with_a_line(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Negative(Step):
        """Turn all levels."""

        def apply(self, images, sizes, draws):  # type: ignore[no-untyped-def]
            return 255 - images, sizes

    monkeypatch.setitem(STEPS, "negative", StepType("negative", "", (), "uint8", Negative))
    view = parse_view("negative | normalize").build("student", **MEAN_STD, executor=executor)
    get_step.cache_clear()
    assert view.executor == "reference"
    assert view.note == (
        f"note: the view 'student' is made by the reference executor: the {executor} executor does not have the step "
        "Negative"
    )
    assert executors.prepare([view], print) == [view.note]
    images = images_of(2, 5, 5)
    assert torch.equal(view.uint8(images, None, torch.arange(2), 0), 255 - images)


@pytest.mark.parametrize(("executor", "tool"), [("cpu", "numba"), ("cuda", "triton")])
def test_without_its_compiler_it_is_the_reference(executor: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"fastnoisy.augment.executors.{executor}.view", None)
    view = parse_view("hflip | normalize").build("student", **MEAN_STD, executor=executor)
    assert view.executor == "reference"
    assert f"{tool} cannot be imported" in view.note


@executors_
def test_an_unknown_operation_goes_to_the_reference_with_a_line(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "OPERATIONS", tuple(name for name in codes.OPERATIONS if name != "hue"))
    view = parse_view("color_jitter | normalize").build("teacher", **MEAN_STD, executor=executor)
    assert view.executor == "reference"
    assert view.note.endswith("does not have the operation hue")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (" | ".join(["hflip"] * 13 + ["normalize"]), "programs of more than 12 steps beside normalize"),
        ("normalize | cutout(2) | cutout(3) | cutout(4)", "more than 2 boxes after normalize"),
    ],
)
def test_what_the_fused_kernel_has_no_room_for(program: str, why: str) -> None:
    view = parse_view(program).build("student", **MEAN_STD, executor="cuda")
    assert view.executor == "reference"
    assert view.note.endswith(f"the cuda executor does not have {why}")


def test_every_operation_has_a_code() -> None:
    assert sorted(codes.OPERATIONS) == ops.op_names()


def test_an_unknown_executor_is_refused() -> None:
    with pytest.raises(FastnoisyError, match="gpu"):
        parse_view("normalize").build("student", **MEAN_STD, executor="gpu")


@executors_
def test_on_another_device_it_is_the_reference(executor: str) -> None:
    view = parse_view("hflip | normalize").build("student", **MEAN_STD, executor=executor)
    assert view.executor == executor
    images = torch.empty((2, 3, 8, 8), dtype=torch.uint8, device="meta")
    made = view.to("meta")(images, None, torch.empty(2, dtype=torch.int64, device="meta"), 0)
    assert made.device.type == "meta"
    assert made.shape == (2, 3, 8, 8)
