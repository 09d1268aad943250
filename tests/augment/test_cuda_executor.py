"""The fused kernels: what they draw, and what is compiled of them for GPUs that are not here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy import keyed_random
from fastnoisy.augment import parse_view
from fastnoisy.augment.executors import codes, programs
from fastnoisy.augment.policies import Mixture, Operations
from fastnoisy.augment.registry import Step

triton = pytest.importorskip("triton")
tl = triton.language

from fastnoisy.augment.executors.cuda import choices, keys, view  # noqa: E402
from fastnoisy.errors import FastnoisyError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WHERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


# -- the hash ---------------------------------------------------------------------------------------------------------


@triton.jit
def hashes(key, value, folded, drawn, small, LIMIT: tl.constexpr):  # type: ignore[no-untyped-def]
    number = tl.program_id(0)
    bits = keys.fold(tl.load(key + number), tl.load(value + number))
    tl.store(folded + number, bits)
    tl.store(drawn + number, keys.below(bits, LIMIT))
    tl.store(small + number, (keys.below(bits, LIMIT) < LIMIT // 2).to(tl.int32))


def test_hashes_and_comparisons_are_keyed_random_s() -> None:
    """A comparison of a hash is what compilers get wrong where they take products for ones that never overflow."""
    draw = np.random.default_rng(0)
    edges = [0, 1, -1, 2**31, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, -(2**63), 3, 5, 7]
    many = draw.integers(-(1 << 63), (1 << 63) - 1, (2, 300))
    given = np.concatenate([[(key, value) for key in edges for value in edges], many.T]).astype(np.int64)
    key, value = torch.from_numpy(given).to(WHERE).unbind(1)
    for limit in (2, 1 << 16, 1 << 31):
        folded, drawn = (torch.zeros(len(given), dtype=torch.int64, device=WHERE) for _ in range(2))
        small = torch.zeros(len(given), dtype=torch.int32, device=WHERE)
        hashes[(len(given),)](key.contiguous(), value.contiguous(), folded, drawn, small, LIMIT=limit)
        bits = [keyed_random.fold(int(one), int(other)) for one, other in given]
        assert folded.tolist() == bits
        below = [keyed_random.below(bit, limit) for bit in bits]
        assert drawn.tolist() == below
        assert small.tolist() == [int(number < limit // 2) for number in below]


# -- draws ------------------------------------------------------------------------------------------------------------


@triton.jit
def policies(  # type: ignore[no-untyped-def]
    key, sizes, step, integers, floats, chosen, values, turns, centers, weights,
    KIND: tl.constexpr, COUNT: tl.constexpr, CHAINS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0)
    own = tl.load(key + sample)
    height, width = tl.load(sizes + 2 * sample), tl.load(sizes + 2 * sample + 1)
    if CHAINS > 0:
        cut, share = choices.cuts(keys.fold(own, 0), CHAINS, WIDTH), keys.draw(keys.fold(own, 0), 0, 65536)
        rest = tl.full((), 65536, tl.int64)
        for chain in range(CHAINS):
            weight = choices.weight(cut, share, chain, WIDTH)
            rest -= weight
            tl.store(weights + sample * (CHAINS + 1) + chain + 1, weight)
        tl.store(weights + sample * (CHAINS + 1), rest)
    for number in range(COUNT):
        place = sample * COUNT + number
        cosine, sine = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
        if KIND == codes.RANDAUGMENT:
            code, value, cosine, sine, y, x = choices.randaugment(own, number, step, integers, floats, height, width)
            tl.store(centers + 2 * place, y)
            tl.store(centers + 2 * place + 1, x)
        elif KIND == codes.TORCHVISION_RANDAUGMENT:
            code, value, cosine, sine = choices.torchvision_randaugment(
                own, number, step, integers, floats, height, width
            )
        elif KIND == codes.AUTOAUGMENT:
            code, value, cosine, sine = choices.autoaugment(own, number, step, integers, floats, height, width)
        elif KIND == codes.COLOR_JITTER:
            code, value = choices.color_jitter(own, number, step, integers)
        else:
            longest = choices.column(step, codes.LONGEST)
            chain, position = number // longest, number % longest
            chain_key = choices.chain_key(own, chain)
            tall, wide = height.to(tl.int64), width.to(tl.int64)
            if KIND == codes.AUGMIX:
                code, value, cosine, sine = choices.augmix(chain_key, position, step, integers, floats, tall, wide)
            else:
                code, value, cosine, sine = choices.google_augmix(chain_key, position, step, integers, tall, wide)
            if position >= choices.chain_length(chain_key, choices.column(step, codes.DEPTH)):
                code = tl.full((), -1, tl.int64)
        tl.store(chosen + place, code)
        tl.store(values + place, value)
        tl.store(turns + 2 * place, cosine)
        tl.store(turns + 2 * place + 1, sine)


@triton.jit
def places(key, sizes, step, integers, out, CANVAS_H, CANVAS_W, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    sample = tl.program_id(0)
    own = tl.load(key + sample)
    height, width = tl.load(sizes + 2 * sample), tl.load(sizes + 2 * sample + 1)
    here = out + 4 * sample
    if KIND == codes.RANDOM_CROP:
        top, left = choices.random_crop(own, step, height, width)
        tl.store(here, top.to(tl.int64))
        tl.store(here + 1, left.to(tl.int64))
    elif KIND == codes.HFLIP:
        tl.store(here, choices.hflip(own, step).to(tl.int64))
    elif KIND == codes.CUTOUT:
        tl.store(here, keys.draw(own, 0, CANVAS_H))
        tl.store(here + 1, keys.draw(own, 1, CANVAS_W))
    elif KIND == codes.SINGLE:
        tl.store(here, choices.center(own, 0, height))
        tl.store(here + 1, choices.center(own, 1, width))
    else:
        if KIND == codes.RANDOM_RESIZED_CROP:
            top, left, tall, wide = choices.random_resized_crop(own, step, integers, height, width)
        else:
            top, left, tall, wide = choices.random_erasing(own, step, integers, height, width)
        tl.store(here, top.to(tl.int64))
        tl.store(here + 1, left.to(tl.int64))
        tl.store(here + 2, tall.to(tl.int64))
        tl.store(here + 3, wide.to(tl.int64))


def tables(step_: Step) -> Any:
    encoded = programs.encode([step_])
    row, integers, floats = (torch.from_numpy(part).to(WHERE) for part in encoded[0:1] + encoded[2:4])
    return row.contiguous(), integers, floats


def samples(count: int, canvas: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(3)
    sizes = np.stack([draw.integers(1, side + 1, count) for side in canvas], 1)
    sizes[0], sizes[1] = (1, 1), canvas
    return torch.from_numpy(draw.integers(-(1 << 63), (1 << 63) - 1, count)), torch.from_numpy(sizes.astype(np.int32))


def step_of(text: str) -> Step:
    after = text.startswith(("cutout(", "random_erasing"))
    program = parse_view(f"normalize | {text}" if after else f"{text} | normalize")
    call = next(call for call in program.steps if call.name != "normalize")
    return call.kind.build(**call.keywords)


@pytest.mark.parametrize(
    "text",
    [
        "randaugment(n=3, m=7)", "torchvision_randaugment(n=3, m=11)", "autoaugment", "color_jitter",
        "color_jitter(hue=0, contrast=0)", "augmix", "augmix(severity=7, width=5, depth=4)", "augmix(width=1)",
        "google_augmix", "google_augmix(severity=9, width=4, all_ops=True)",
    ],
)  # fmt: skip
def test_policies_draw_the_reference_s_integers(text: str) -> None:
    made, canvas = step_of(text), (33, 61)
    key, sizes = samples(40, canvas)
    wanted: Any = made.draw(key, sizes, canvas)
    assert isinstance(wanted, Operations | Mixture)
    rows, integers, floats = tables(made)
    chains = wanted.weights.shape[1] - 1 if isinstance(wanted, Mixture) else 0
    count = wanted.chosen.flatten(1).shape[1]
    chosen = torch.zeros((len(key), count), dtype=torch.int64, device=WHERE)
    values = torch.zeros(chosen.shape, dtype=torch.float64, device=WHERE)
    turns, centers = (torch.zeros((*chosen.shape, 2), dtype=torch.int64, device=WHERE) for _ in range(2))
    weights = torch.zeros((len(key), chains + 1), dtype=torch.int64, device=WHERE)
    policies[(len(key),)](
        key.to(WHERE), sizes.to(WHERE), rows, integers, floats, chosen, values, turns, centers, weights,
        KIND=int(rows[0, codes.KIND]), COUNT=count, CHAINS=chains, WIDTH=triton.next_power_of_2(chains + 1),
    )  # fmt: skip
    names = [codes.OPERATIONS.index(name) for name in made.names]  # type: ignore[union-attr, arg-type]
    numbers = torch.tensor([*names, -1])[wanted.chosen.flatten(1)]  # -1, none, is the last
    assert torch.equal(chosen.cpu(), numbers)
    assert torch.equal(values.cpu(), wanted.values.flatten(1))
    if wanted.rotation is not None:
        assert torch.equal(turns.cpu(), wanted.rotation.flatten(1, -2))
    if isinstance(wanted, Mixture):
        assert torch.equal(weights.cpu(), wanted.weights)
    elif wanted.centers is not None:
        assert torch.equal(centers.cpu(), wanted.centers)


@pytest.mark.parametrize(
    "text",
    [
        "random_crop(16, padding=3)", "random_crop(40)", "hflip(0.3)", "random_resized_crop(16)", "cutout_abs(5)",
        "random_resized_crop(9, scale=(0.5, 0.5))", "cutout(7)", "random_erasing(p=0.9)",
    ],
)  # fmt: skip
def test_places_are_the_reference_s(text: str) -> None:
    made, canvas = step_of(text), (33, 61)
    key, sizes = samples(300, canvas)
    wanted: Any = made.draw(key, sizes, canvas)
    columns = torch.stack([part.long() for part in wanted], 1).flatten(1)
    rows, integers, _ = tables(made)
    out = torch.zeros((len(key), 4), dtype=torch.int64, device=WHERE)
    places[(len(key),)](key.to(WHERE), sizes.to(WHERE), rows, integers, out, *canvas, KIND=int(rows[0, codes.KIND]))
    assert torch.equal(out.cpu()[:, : columns.shape[1]], columns)
    assert columns.float().std() > 0


# -- launches ---------------------------------------------------------------------------------------------------------


def made(program: str, executor: str, count: int) -> Any:
    view_ = parse_view(program).build("eval", mean=(0.4,) * 3, std=(0.2,) * 3, executor=executor)
    images = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (count, 3, 40, 36)).astype(np.uint8))
    place = WHERE if executor == "cuda" else torch.device("cpu")
    return view_.to(place), images.to(place), torch.arange(count, device=place)


def test_scratch_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """More images than it holds are made by several launches, which share it."""
    program = "augmix | random_crop(33) | normalize"
    reference, images, rows = made(program, "reference", 5)
    wanted = reference(images, None, rows, 3)
    fused, images, rows = made(program, "cuda", 5)
    taken: list[int] = []
    real = torch.empty

    def empty(*size: Any, **options: Any) -> torch.Tensor:
        if options.get("dtype") == torch.int32:
            taken.append(4 * size[0])
        return real(*size, **options)

    monkeypatch.setattr(torch, "empty", empty)
    for bound in (1, 2 * 4 * fused.plan((40, 36)).scratch, 2 << 30):
        monkeypatch.setattr(view, "_SCRATCH_BYTES", bound)
        assert torch.equal(fused(images, None, rows, 3).cpu(), wanted)
    one = 4 * fused.plan((40, 36)).scratch
    assert taken == [one, 2 * one, 5 * one]


def test_a_cast_of_the_module_leaves_its_tables_alone() -> None:
    fused, images, rows = made("randaugment(n=2, m=9) | normalize | cutout(4)", "cuda", 3)
    wanted = fused(images, None, rows, 3)
    assert torch.equal(fused.half()(images, None, rows, 3), wanted)
    assert torch.equal(fused.double()(images, None, rows, 3), wanted)


def test_what_triton_cannot_compile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, images, rows = made("hflip | normalize", "cuda", 2)

    def fails(*_: Any) -> None:
        raise RuntimeError("Failed to find C compiler.\nmore")

    monkeypatch.setattr(view, "_launch", fails)
    monkeypatch.setattr(view, "_view", fails)
    with pytest.raises(
        FastnoisyError, match=r"cannot compile the view 'eval' here: Failed to find C compiler.*reference"
    ):
        fused(images, None, rows, 3)


def test_numbers_of_other_modules_are_told_apart_on_disk() -> None:
    """Triton's key of what it has compiled does not see them."""
    code = (
        "from fastnoisy.augment.executors import codes\n{change}"
        "from fastnoisy.augment.executors.cuda import constants\nprint(constants.VERSION)"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code.format(change=change)], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        for change in ("", "", "codes.SIZE = 3\n")
    ]
    assert told[0] == told[1] != told[2]


# -- compiled for GPUs that are not here ------------------------------------------------------------------------------


def compiled(out: Path, *words: str) -> list[dict[str, Any]]:
    """What the script says of each view; it compiles in a process where Triton does not interpret."""
    script = ROOT / "benchmarks" / "kernels.py"
    subprocess.run([sys.executable, script, *words, "--out", out], check=True, capture_output=True)
    cases: list[dict[str, Any]] = json.loads((out / "kernels.json").read_text())["cases"]
    return cases


def check(cases: list[dict[str, Any]], archs: list[str]) -> None:
    for case in cases:
        assert sorted(case["compiled"]) == sorted(archs)
        for made in case["compiled"].values():
            assert made["doubtful"] == [], "rounds otherwise than the interpreter, which alone is compared"
            assert made["unguarded"] == [], "scratch memory is read with no barrier after it was written"
            assert made["calls"] == 0, "a function with two returns is no part of a loop to every Triton"
            assert made["registers"] * made["warps"] * 32 <= 65536
            assert made["stack"] == 0 or max(case["canvas"]) > 32, "registers are spilled"


def test_views_compile_for_a_gpu(tmp_path: Path) -> None:
    cases = compiled(tmp_path, "--tiny", "--arch", "90")
    check(cases, ["90"])
    assert [case["compiled"]["90"]["warps"] for case in cases] == [8, 8, 16]


@pytest.mark.slow
def test_all_views_compile_for_all_gpus(tmp_path: Path) -> None:
    check(compiled(tmp_path), ["80", "90", "100"])


def test_what_is_looked_for_would_be_found(tmp_path: Path) -> None:
    """In a kernel with a product that meets a sum, a quick division, and no barrier."""
    code = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
        "import triton, triton.language as tl\n"
        "from triton.backends.compiler import GPUTarget\n"
        "from triton.compiler import ASTSource\n"
        "import kernels\n"
        "@triton.jit\n"
        "def bad(x, out, scratch, n):\n"
        "    p = tl.arange(0, 256)\n"
        "    v = tl.load(x + p)\n"
        "    for _ in range(n):\n"
        "        w = tl.load(scratch + 255 - p)\n"
        "        v = v * 3.1 + w.to(tl.float32) / 7.3 + v / tl.exp(v)\n"
        "        tl.store(scratch + p, v.to(tl.int32))\n"
        "    v += tl.load(scratch + 255 - p)\n"
        "    tl.store(out + p, v.to(tl.bfloat16))\n"
        "types = {'x': '*fp32', 'out': '*bf16', 'scratch': '*i32', 'n': 'i32'}\n"
        "made = triton.compile(ASTSource(bad, types, {}), target=GPUTarget('cuda', 90, 32))\n"
        "print(json.dumps([kernels.doubtful(made.asm['ptx']), kernels.unguarded(made.asm['ttgir'])]))\n"
    )
    (tmp_path / "bad.py").write_text(code)
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    told = subprocess.run(
        [sys.executable, tmp_path / "bad.py"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    doubtful_, unguarded = json.loads(told)
    assert {name.split(".")[0] for name in doubtful_} >= {"fma", "div"}
    assert any("approx" in name for name in doubtful_)
    assert unguarded
