"""What the fused views are made of, without a GPU: registers, memory and spills as compiled, bytes and operations.

    python benchmarks/kernels.py --out benchmarks/results

Each view of the recipes is compiled for A100 (sm_80), H100 (sm_90) and B200 (sm_100) by the Triton that is installed,
and interpreted over some images, which counts what it loads, stores and computes. From these follows the least time
that a batch of 128 could take: its bytes at the bandwidth of the memory of an H100 or H200, or its operations at the
rate of an H100's integer units, whichever is longer. No GPU has been asked: these are limits, not measurements.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from _report import markdown, run, write

BATCH = 128
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes per second, of NVIDIA's data sheets
INTEGER_RATE = 132 * 64 * 1.83e9  # operations per second: an H100 SXM's cores, their int32 lanes, its boost clock
CANVASES = {32: (32, 32), 224: (512, 512)}
RECIPES = (
    ("cifar10-nrd", (), 32),
    ("cifar10-alasca", (), 32),
    ("webvision-nrd", (), 224),
    ("webvision-alasca", (), 224),
    ("folder-nrd", ("views.size=224",), 224),
)
INPUT, SCRATCH, TABLES, OUTPUT = "batch", "scratch", "tables", "result"


def programs(tiny: bool) -> dict[str, tuple[str, int]]:
    """Different programs of the recipes: the program, where it is from and the side that it makes."""
    from fastnoisy.training import setup

    found: dict[str, tuple[str, int]] = {}
    for recipe, words, side in RECIPES:
        views = setup.resolve(recipe, words).views
        for name in ("student", "teacher", "weak", "eval"):
            found.setdefault(str(views[name]), (f"{recipe} {name}", side))
    kept = ("cifar10-nrd student", "cifar10-nrd teacher", "webvision-nrd weak")
    return {program: place for program, place in found.items() if not tiny or place[0] in kept}


def build(program: str) -> Any:
    """The view, in bf16 and channels-last as a GPU is given it."""
    import torch
    from _view_peers import MEAN_STD

    from fastnoisy.augment import parse_view

    return parse_view(program).build("student", **MEAN_STD, executor="cuda", dtype=torch.bfloat16, channels_last=True)


# -- compiled ---------------------------------------------------------------------------------------------------------


def compiled(program: str, canvas: tuple[int, int], arch: int, **options: Any) -> Any:
    """The kernel of a view for a GPU that need not be here."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastnoisy.augment.executors.cuda import kernel

    plan = build(program).plan(canvas)
    constants = {
        "STEPS": plan.steps, "UINT8_STEPS": plan.uint8_steps, "KINDS": plan.kinds, "OPS": plan.ops,
        "WIDTH": plan.width, "HAS_SIZES": True, "NORMALIZED": True,
        "FROM_BATCH": plan.from_batch, "ON_CHIP": plan.on_chip, "N": plan.pixels, "VERSION": 0,
    }  # fmt: skip
    types = {
        "batch": "*u8", "sizes": "*i32", "indices": "*i64", "key": "*i64", "rows": "*i64", "integers": "*i64",
        "floats": "*fp64", "lookup": "*bf16", "fills": "*bf16", "out": "*bf16", "scratch": "*i32",
    }  # fmt: skip
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.view.arg_names}
    source = ASTSource(fn=kernel.view, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": plan.warps, **options})


def resources(made: Any) -> dict[str, int]:
    """Registers and stack of a thread, and shared memory of a program, in bytes, as the assembler gave them."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.cubin").write_bytes(made.asm["cubin"])
        words = [tool, "-res-usage", Path(folder) / "kernel.cubin"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", told).groups()  # type: ignore[union-attr]
    return {
        "warps": made.metadata.num_warps, "registers": int(registers), "stack": int(stack),
        "shared": made.metadata.shared,
    }  # fmt: skip


def doubtful(ptx: str) -> list[str]:
    """Instructions that round otherwise than the interpreter does."""
    return re.findall(r"^\s*(?:@\S+\s+)?((?:fma\.\S*|div\.full\S*|\S+\.approx\S*))", ptx, re.MULTILINE)


def unguarded(ttgir: str) -> list[str]:
    """Reads of scratch memory, which alone holds 32-bit numbers, after a write with no barrier of all threads between.

    In the order of the text of Triton's GPU dialect, so loops are looked at once: a loop that writes one buffer reads
    others.
    """
    found, dirty = [], False
    for line in ttgir.splitlines():
        if re.search(r"\b(gpu|ttg)\.barrier\b", line):
            dirty = False
        elif re.search(r"\btt\.store\b.*x!tt\.ptr<i32>", line):
            dirty = True
        elif dirty and re.search(r"\btt\.load\b.*x!tt\.ptr<i32>", line):
            found.append(line.strip())
    return found


# -- counted ----------------------------------------------------------------------------------------------------------


def counted(program: str, canvas: tuple[int, int], images: int) -> dict[str, float]:
    """What the interpreter loads, stores and computes for one image, on average over some."""
    import numpy as np
    import torch
    from triton.runtime import interpreter

    counts: collections.Counter[str] = collections.Counter()
    kinds = {8: INPUT, 16: OUTPUT, 32: SCRATCH, 64: TABLES}
    free = re.compile(
        r"cast|splat|broadcast|expand|reshape|range|trans|ptr|const|join|split|barrier|null|to_|_to|ext|trunc"
    )

    def note(name: str, method: Any) -> Any:
        @functools.wraps(method)
        def noted(self: Any, *arguments: Any, **options: Any) -> Any:
            made = method(self, *arguments, **options)
            if name in ("create_masked_load", "create_load", "create_masked_store", "create_store"):
                pointers = arguments[0]
                bits = pointers.get_element_ty().primitive_bitwidth
                mask = arguments[1 if name == "create_masked_load" else 2] if "masked" in name else None
                number = int(np.count_nonzero(mask.data)) if mask is not None else pointers.data.size
                table = bits == 16 and "load" in name  # `normalize`'s, which stays in the cache
                way = "stored" if "store" in name else "loaded"
                counts[f"{TABLES if table else kinds[bits]} {way}"] += number * bits // 8
            elif name == "create_gather":
                counts["gathered"] += made.data.size
            elif not free.search(name) and hasattr(made, "data") and made.data.size > 1:
                counts["operations"] += made.data.size
            return made

        return noted

    builder = interpreter.InterpreterBuilder
    kept = {name: getattr(builder, name) for name in dir(builder) if name.startswith("create_")}
    view, draw = build(program), np.random.default_rng(0)
    height, width = canvas if canvas[0] <= 32 else (canvas[0] * 3 // 4, canvas[1])
    batch = torch.from_numpy(draw.integers(0, 256, (images, *canvas, 3)).astype(np.uint8)).permute(0, 3, 1, 2)
    sizes = torch.tensor([[height, width]] * images, dtype=torch.int32)
    try:
        for name, method in kept.items():
            setattr(builder, name, note(name, method))
        view(batch, sizes, torch.arange(images), 7)
    finally:
        for name, method in kept.items():
            setattr(builder, name, method)
    return {name: number / images for name, number in sorted(counts.items())}


def _in_interpreter(program: str, canvas: tuple[int, int], images: int) -> dict[str, float]:
    words = [sys.executable, __file__, "--count", json.dumps([program, canvas, images])]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


# -- together ---------------------------------------------------------------------------------------------------------


def limits(counts: dict[str, float]) -> dict[str, float]:
    """Bytes of the GPU's memory and operations of one image, and the least microseconds of a batch."""
    moved = sum(number for name, number in counts.items() if name.endswith("ed") and TABLES not in name and " " in name)
    operations = counts.get("operations", 0.0) + counts.get("gathered", 0.0)
    times = {f"{name} bytes": 1e6 * BATCH * moved / rate for name, rate in BANDWIDTH.items()}
    return {"bytes": moved, "operations": operations, **times, "operations us": 1e6 * BATCH * operations / INTEGER_RATE}


def table(cases: list[dict[str, Any]], archs: list[int]) -> str:
    """One row per view."""
    rows = []
    for case in cases:
        made = [case["compiled"][str(arch)] for arch in archs]
        bound = case["limits"]
        rows.append(
            [
                case["name"],
                f"{case['canvas'][0]}x{case['canvas'][1]}",
                " / ".join(str(one["registers"]) for one in made),
                " / ".join(str(one["stack"]) for one in made),
                str(made[0]["shared"]),
                f"{bound['bytes'] / 1000:,.0f}",
                f"{bound['operations'] / 1e6:.2f}",
                f"{bound['H100 bytes']:,.1f}",
                f"{bound['H200 bytes']:,.1f}",
                f"{bound['operations us']:,.1f}",
            ]
        )
    heads = [
        "view", "canvas", "registers", "stack, bytes", "shared, bytes", "kB moved per image", "million operations",
        "µs per 128 at 3.35 TB/s", "at 4.8 TB/s", "µs of operations",
    ]  # fmt: skip
    return markdown(heads, rows)


def note(archs: list[int]) -> str:
    """What the table's numbers are."""
    import triton

    gpus = ", ".join(f"sm_{arch}" for arch in archs)
    return (
        f"Triton {triton.__version__}; registers and stack of a thread for {gpus}; no GPU has been asked. Bytes and "
        "operations as Triton's interpreter counts them, the mean of images whose photographs cover three quarters of "
        "their canvas; what is read twice counts twice, though a cache may hold it. Least time of "
        f"{BATCH} images: by bytes, and by operations at {INTEGER_RATE / 1e12:.1f} T per second, the rate of an H100's "
        "integer units."
    )


@click.command(help=__doc__)
@click.option("--arch", "archs", multiple=True, type=int, default=(80, 90, 100), show_default=True)
@click.option("--count", hidden=True, help="Count one view in this process, under Triton's interpreter.")
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this folder.")
@click.option("--tiny", is_flag=True, help="Three views, one image: to see that it works.")
def main(archs: tuple[int, ...], count: str | None, device: str, out: Path | None, tiny: bool) -> None:
    """The command; see the module."""
    if count:
        print(json.dumps(counted(*json.loads(count))))
        return
    os.environ["TRITON_INTERPRET"] = "0"  # read when Triton is imported
    import triton

    cases = []
    for program, (name, side) in programs(tiny).items():
        canvas = CANVASES[side]
        case: dict[str, Any] = {"name": name, "program": program, "canvas": canvas, "compiled": {}}
        for arch in archs:
            made = compiled(program, canvas, arch)
            ptx = made.asm["ptx"]
            case["compiled"][str(arch)] = {
                **resources(made), "doubtful": doubtful(ptx), "unguarded": unguarded(made.asm["ttgir"]),
                "calls": made.asm["ttgir"].count("tt.call"),
            }  # fmt: skip
        case["counts"] = _in_interpreter(program, canvas, 1 if tiny else 16 if side == 32 else 6)
        case["limits"] = limits(case["counts"])
        cases.append(case)
        print(f"{name}: {case['limits']}", file=sys.stderr, flush=True)
    text, told = table(cases, list(archs)), note(list(archs))
    print(f"{text}\n\n{told}")
    if out:
        write(out, "kernels", {"triton": triton.__version__, "cases": cases, "table": text, "note": told})


if __name__ == "__main__":
    run(main)
