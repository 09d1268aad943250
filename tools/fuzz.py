"""Damaged and hostile files through all that reads what people bring: no traceback, no crash, nothing in silence.

    python tools/fuzz.py                                   # a minute over all kinds
    python tools/fuzz.py --seconds 1200 --seed 7
    python tools/fuzz.py --only store,images               # some kinds
    python tools/fuzz.py --only images --seed 7 --case 812 # one case again, with its traceback

A case takes a sound sample (a store, a run, a list, an archive, an image ...), changes one of its files (bits, bytes,
pieces cut out, doubled or moved, cut short) and reads it as the program does, in a worker process with a limit of time
and of memory. A case is sound where the reader gives what the sample holds, refuses it in one line, or rejects images
with a reason. Where a format is guarded by digests, another result without a word is a fault; elsewhere it is counted
as changed. Cases depend on the seed and their number alone. Exit code 0: no fault; 1: faults, whose files are kept.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from _fuzz_kinds import KINDS, Heard, Sample  # noqa: E402

from fastnoisy.errors import FastnoisyError, printable  # noqa: E402
from fastnoisy.workers import Lost, ordered  # noqa: E402

SLICE = 3.0  # seconds that one kind gets in turn
CHUNK = 8
TIMEOUT = 20.0  # seconds for one case
OUTCOMES = ("equal", "refused", "said", "changed", "fault")
Verdict = tuple[str, str]  # one of OUTCOMES, and what is wrong


def mutate(data: bytes, draw: random.Random, other: bytes) -> bytes:
    """Change a file: once, or a few times; `other` is a file to take pieces from."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        size = len(changed)
        at = draw.randrange(size + 1)
        length = min(draw.choice((1, 2, 4, 16, 256, 4096)), size - at)
        kind = draw.choice(("bit", "bit", "bit", "bytes", "value", "cut", "double", "splice", "short", "insert"))
        if kind == "bit" and size:
            changed[at % size] ^= 1 << draw.randrange(8)
        elif kind == "bytes":
            changed[at : at + length] = draw.randbytes(length)
        elif kind == "value":
            changed[at : at + 4] = draw.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
            )
        elif kind == "cut":
            del changed[at : at + length]
        elif kind == "double":
            changed[at:at] = changed[at : at + length] * draw.choice((1, 1, 3, 50))
        elif kind == "splice":
            start = draw.randrange(len(other) + 1)
            changed[at : at + length] = other[start : start + length]
        elif kind == "short":
            del changed[at:]
        elif kind == "insert":
            changed[at:at] = draw.choice(
                (b"\0" * 64, b"\xff" * 8, b"\n", b'"', b"\x1b]0;x\x07", "é\u202e".encode(), b"1e999")
            )
    return bytes(changed)


def lay_out(sample: Sample, place: Path, name: str, content: bytes) -> None:
    """The sample under another name, with one file changed; files that stay are links."""
    for path in sample.root.rglob("*"):
        target = place / path.relative_to(sample.root)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif str(path.relative_to(sample.root)) != name:
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                target.hardlink_to(path)
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).unlink(missing_ok=True)
    (place / name).write_bytes(content)


def case(kind: str, samples: list[Sample], seed: int, number: int) -> tuple[Sample, str, bytes]:
    """The sample, the file in it and its content in a case."""
    draw = random.Random(f"{seed} {kind} {number}")
    sample = draw.choice(samples)
    name = draw.choice(sample.files)
    other = draw.choice(samples)
    piece = (other.root / draw.choice(other.files)).read_bytes()
    return sample, name, mutate((sample.root / name).read_bytes(), draw, piece)


def try_case(kind: str, samples: list[Sample], seed: int, keep: Path, number: int) -> Verdict:
    """In a worker: read one changed sample."""
    warnings.simplefilter("ignore")
    sample, name, content = case(kind, samples, seed, number)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=sample.root.parent) as place:
        lay_out(sample, Path(place), name, content)
        heard = Heard()
        try:
            found = sample.read(Path(place), heard)
        except FastnoisyError as error:
            text = str(error)
            if printable(text) == text:
                return "refused", ""
            verdict = "fault", f"the error is no plain text: {text!r}"
        except Exception as error:
            place_of = traceback.extract_tb(error.__traceback__)[-1]
            verdict = "fault", f"{type(error).__name__}: {error} ({Path(place_of.filename).name}:{place_of.lineno})"
        else:
            if found == sample.value:
                return "equal", ""
            if heard:
                return "said", ""
            if not sample.guarded:
                return "changed", ""
            verdict = "fault", "another value, in silence"
    keep.mkdir(parents=True, exist_ok=True)
    (keep / f"{kind}-{number}-{Path(name).name}").write_bytes(content)
    return verdict


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option("--seconds", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="For all kinds.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--only", metavar="KINDS", default="", help=f"Some of {', '.join(KINDS)}, with commas.")
@click.option("--case", "number", type=int, help="Run one case of one kind, in this process.")
@click.option(
    "--keep", type=click.Path(path_type=Path), default="fuzz-faults", show_default=True, help="For bad files."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True)
def main(seconds: float, seed: int, only: str, number: int | None, keep: Path, workers: int) -> None:
    """Run the cases."""
    kinds = [name.strip() for name in only.split(",")] if only else list(KINDS)
    unknown = [name for name in kinds if name not in KINDS]
    if unknown or (number is not None and len(kinds) != 1):
        raise click.UsageError(f"--only takes {', '.join(KINDS)}; --case takes one of them")
    folder = Path(tempfile.mkdtemp(prefix="fastnoisy-fuzz-"))
    try:
        samples = {name: KINDS[name](folder / name) for name in kinds}
        if number is not None:
            sample, name, content = case(kinds[0], samples[kinds[0]], seed, number)
            lay_out(sample, folder / "case", name, content)
            print(f"{sample.root.name}/{name}, {len(content):,} bytes")
            found = sample.read(folder / "case", Heard())
            print("equal" if found == sample.value else "changed")
            return
        counts = run(samples, seconds, seed, keep.absolute(), workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'kind':14}" + "".join(f"{name:>10}" for name in OUTCOMES))
    for kind, found in counts.items():
        print(f"{kind:14}" + "".join(f"{found[name]:10,}" for name in OUTCOMES))
    faults = sum(found["fault"] for found in counts.values())
    print(f"{sum(map(sum, (c.values() for c in counts.values()))):,} cases, {faults:,} faults, seed {seed}")
    sys.exit(1 if faults else 0)


def run(
    samples: dict[str, list[Sample]], seconds: float, seed: int, keep: Path, workers: int
) -> dict[str, Counter[str]]:
    """Each kind in turn, a slice of time each, until the time is over; the outcomes of each."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in samples}
    following = dict.fromkeys(samples, 0)
    end, told = time.monotonic() + seconds, time.monotonic()
    while True:
        for kind, mine in samples.items():
            stop = min(end, time.monotonic() + SLICE)
            work = functools.partial(try_case, kind, mine, seed, keep)
            items = range(following[kind], following[kind] + 1_000_000)

            with contextlib.closing(
                ordered(work, items, workers=workers, lost=_lost, timeout=TIMEOUT, chunk=CHUNK)
            ) as verdicts:
                for outcome, problem in verdicts:
                    number = following[kind]
                    following[kind] += 1
                    counts[kind][outcome] += 1
                    if outcome == "fault":
                        print(f"FAULT {kind} {number}: {problem}", flush=True)
                        print(f"      again: tools/fuzz.py --only {kind} --seed {seed} --case {number}", flush=True)
                    if time.monotonic() >= stop:
                        break
            if time.monotonic() - told > 30:
                told = time.monotonic()
                done = sum(sum(found.values()) for found in counts.values())
                print(f"{done:,} cases, {max(0.0, end - told):.0f} s left", flush=True)
            if time.monotonic() >= end and all(following.values()):
                return counts


def _lost(lost: Lost) -> Verdict:
    return "fault", lost.reason


if __name__ == "__main__":
    main()
