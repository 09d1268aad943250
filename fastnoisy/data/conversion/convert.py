"""Conversion of a source into a store: many processes encode, one writes, in the source's order.

`encode` is a pure function of one image and the one writer takes the records in order; so the bytes depend on the
source and the options alone, not on the number of workers, of shards, or of interruptions. Nothing bears the final name
until all of it is written; until then it grows in a folder beside it, from which the same command goes on (see
journal.py).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL
import simplejpeg

from fastnoisy import __version__
from fastnoisy.data.conversion import shards
from fastnoisy.data.conversion import shrink as shrink_module
from fastnoisy.data.conversion.corrected import LabelOptions
from fastnoisy.data.conversion.encode import Plan, Resize
from fastnoisy.data.conversion.journal import Part, Partial, partial_path, refuse_existing, stamps_of
from fastnoisy.data.conversion.options import ConvertOptions, hold_out_test, make_plan
from fastnoisy.data.conversion.outcome import Outcome, Rejected, Stored
from fastnoisy.data.conversion.rows import (
    Rows,
    encode_row,
    has_changed,
    is_made_smaller,
    rejected_or_refused,
    size_of_row,
)
from fastnoisy.data.conversion.shrink import Shrink
from fastnoisy.data.conversion.tables import SplitSummary, Summary, check_rejected, finish_store
from fastnoisy.data.sources.base import SourceSplit
from fastnoisy.data.store.meta import FORMAT
from fastnoisy.errors import FastnoisyError, one_line
from fastnoisy.machine import num_workers
from fastnoisy.workers import TIMEOUT, Progress, Status, check_timeout, ordered

__all__ = ["ConvertOptions", "LabelOptions", "SplitSummary", "Summary", "convert", "hold_out_test", "merge"]


def convert(
    source: str,
    out: str | Path,
    *,
    options: ConvertOptions | None = None,
    workers: int | None = None,
    timeout: float = TIMEOUT,
    shard: shards.Shard | None = None,
    restart: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
    start: str | None = None,
    labels: LabelOptions | None = None,
) -> Summary:
    """Convert a data set into a store, or go on with a conversion that was stopped.

    Args:
        source: what to convert: a path, `kind:path`, or a kind that needs no path.
        out: the folder to make; it must not exist.
        options: how; the defaults where None.
        workers: processes; as many as there are cores and memory for where None.
        timeout: seconds that reading and decoding one image may take, 0.001 to 1,000,000.
        shard: the part of all rows to convert, into a folder that `merge` joins with the others; all where None.
        restart: whether what an earlier, unfinished conversion has left is thrown away.
        progress: called after each image.
        say: takes a line of text that the user should read.
        start: how processes are made, see `workers.ordered`.
        labels: how labels are read, and a file that corrects them; as the source has them where None.

    Raises:
        FastnoisyError: the source cannot be opened, or the machine fails to read it, `out` exists or cannot be written,
            another conversion to it is unfinished or running, or too many images were rejected.
    """
    options = options or ConvertOptions()
    out, say = Path(out), say or (lambda line: None)
    count = num_workers(workers)
    check_timeout(timeout)
    refuse_existing(out)
    rows = Rows(source, options.test_fraction, labels or LabelOptions())
    opened, splits = rows.source, rows.splits
    if opened.root is not None and out.resolve().is_relative_to(opened.root.resolve()):
        problem = f"{out} lies within the source, {opened.root}"
        raise FastnoisyError(problem, "the next conversion would take it for a class")
    for line in [*opened.notes, *rows.lines]:
        say(line)
    target = out if shard is None else shard.path(out)
    identity = _identity(rows, options, shard)
    if shard is not None and target.exists():
        return shards.finished(target, identity)
    run = functools.partial(ordered, workers=count, timeout=timeout, start=start)
    with writing(target), Partial(target, identity, restart=restart) as partial:
        todos = [range(len(split)) if shard is None else shard.rows(len(split)) for split in splits]
        try:
            changed = _changed(partial, rows, todos, run)
            plan, complete = _plan(partial, rows, options, run, anew=bool(changed))
        except FastnoisyError:
            if not partial.details:
                partial.discard()
            raise
        _note_details(partial, rows, plan, complete, options)
        with contextlib.ExitStack() as open_parts:
            parts = []
            for split, todo in zip(splits, todos, strict=True):
                parts.append(Part(partial, split.name, todo, split.given_labels, plan.page_size))
                open_parts.callback(parts[-1].close)
            for number, row in changed.items():
                path = one_line(splits[number].paths[row])
                say(f"{path} has changed since an earlier run: from there on, {splits[number].name} is made anew")
                parts[number].forget(row)
            for number, (part, split) in enumerate(zip(parts, splits, strict=True)):
                work = functools.partial(encode_row, rows, number, plan, Shrink())
                _try_again(part, work, run, split.paths)
                check_rejected(part, split, options.max_rejected)
            counter = Counter(progress, parts, say)
            shrink = _compiled(rows, plan, [range(part.next_row, part.rows.stop) for part in parts], run)
            for number, (part, split) in enumerate(zip(parts, splits, strict=True)):
                todo = range(part.next_row, part.rows.stop)
                work = functools.partial(encode_row, rows, number, plan, shrink)
                lost = functools.partial(rejected_or_refused, split.paths)
                with contextlib.closing(run(work, todo, lost=lost)) as outcomes:
                    fill(part, split, outcomes, options.max_rejected, counter)
            if shard is not None:
                return shards.finish_shard(partial, parts, splits)
            return finish_store(partial, parts, splits)


def merge(
    out: str | Path,
    *,
    max_rejected: float | None = None,
    restart: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> Summary:
    """Join the shards beside `out` into the store that one machine would have written.

    Args:
        out: the folder to make; its shards are `OUT.shard-0-of-N` and so on.
        max_rejected: as in ConvertOptions; the largest that a shard was made with where None.
        restart: whether what an earlier, unfinished merge has left is thrown away.
        progress: called after each image.
        say: takes a line of text that the user should read.

    Raises:
        FastnoisyError: a shard is missing, damaged, or of another conversion; or as `convert`.
    """
    out = Path(out)
    refuse_existing(out)
    folders = shards.find(out)
    splits = shards.read_splits(folders)
    details = folders[0].details
    if max_rejected is None:
        max_rejected = max(folder.details["info"]["options"]["max_rejected"] for folder in folders)
    allowed = ConvertOptions(max_rejected=max_rejected).max_rejected
    options = {**details["info"]["options"], "max_rejected": allowed}
    with (
        writing(out),
        Partial(out, {**folders[0].identity, "shard": None}, restart=restart) as partial,
        contextlib.ExitStack() as open_parts,
    ):
        partial.note({**details, "info": {**details["info"], "options": options}})
        parts = []
        for split in splits:
            part = Part(partial, split.name, range(len(split)), split.given_labels, details["plan"]["page_size"])
            parts.append(part)
            open_parts.callback(part.close)
            check_rejected(part, split, allowed, merging=True)
        counter = Counter(progress, parts, say or (lambda line: None))
        for part, split in zip(parts, splits, strict=True):
            fill(part, split, shards.joined(folders, split, part.next_row), allowed, counter, merging=True)
        return finish_store(partial, parts, splits)


class Counter:
    """Tells how many images of all are done."""

    def __init__(self, progress: Progress | None, parts: Sequence[Part], say: Callable[[str], object]) -> None:
        self._progress = progress
        self._done = sum(part.next_row - part.rows.start for part in parts)
        self._total = sum(len(part.rows) for part in parts)
        self._bad = sum(len(part.rejected) for part in parts)
        if self._done:
            say(f"going on with an earlier run: {self._done:,} of {self._total:,} images are done")
            if progress is not None:
                progress(Status(self._done, self._total, self._bad))

    def advance(self, good: bool) -> None:
        """One image more is done."""
        self._done += 1
        self._bad += not good
        if self._progress is not None:
            self._progress(Status(self._done, self._total, self._bad))


def fill(
    part: Part,
    split: SourceSplit,
    outcomes: Iterable[Outcome],
    allowed: float,
    counter: Counter,
    *,
    merging: bool = False,
) -> None:
    """Write what becomes of the rows of a part; see `check_rejected` for `allowed` and `merging`.

    Raises:
        FastnoisyError: too many are rejected.
        OSError: the disk is full, or fails.
    """
    for outcome in outcomes:
        part.append(outcome)
        if isinstance(outcome, Rejected):
            check_rejected(part, split, allowed, merging=merging)
        counter.advance(good=isinstance(outcome, Stored))
    part.commit()


def _changed(
    partial: Partial, rows: Rows, todo: Sequence[range], run: Callable[..., Generator[Any, None, None]]
) -> dict[int, int]:
    """By split, the first row of an earlier run whose file has changed since."""
    found = {}
    for number, split in enumerate(rows.splits):
        told = stamps_of(partial.path / f"{split.name}.journal")
        work = functools.partial(has_changed, rows, number, todo[number].start, told)
        with contextlib.closing(run(work, range(len(told) if any(told) else 0), lost=bool)) as results:
            first = next((i for i, changed in enumerate(results) if changed), None)
        if first is not None:
            found[number] = todo[number].start + first
    return found


def _compiled(rows: Rows, plan: Plan, todo: list[range], run: Callable[..., Generator[Any, None, None]]) -> Shrink:
    """What makes images smaller, compiled where, by a few of the longest split, it pays."""
    shrink = Shrink()
    number = max(range(len(todo)), key=lambda i: len(todo[i]))
    count = len(todo[number])
    if plan.resize.kind == "none" or count < shrink_module.WORTH_IMAGES:
        return shrink
    sample = todo[number][:: max(1, count // 32)]
    work = functools.partial(is_made_smaller, rows, number, plan, sample)
    with contextlib.closing(run(work, range(len(sample)), lost=str, chunk=8)) as found:
        smaller = sum(result is True for result in found)
    if smaller * count >= shrink_module.WORTH_IMAGES * len(sample):
        shrink.prepare()
    return shrink


def _try_again(
    part: Part, work: Callable[[int], Any], run: Callable[..., Generator[Any, None, None]], paths: Sequence[str]
) -> None:
    """Look again at the images of an earlier run that may be readable now; from the first that is, rows are made
    anew.
    """
    rows = list(part.again)
    lost = functools.partial(rejected_or_refused, [paths[row] for row in rows])
    with contextlib.closing(run(functools.partial(_work_of, work, rows), range(len(rows)), lost=lost)) as results:
        for row, result in zip(rows, results, strict=True):
            if not isinstance(result, Rejected) or not result.retry:
                part.forget(row)
                return


def _work_of(work: Callable[[int], Any], rows: list[int], i: int) -> Any:
    return work(rows[i])


def _plan(
    partial: Partial,
    rows: Rows,
    options: ConvertOptions,
    run: Callable[..., Generator[Any, None, None]],
    anew: bool,
) -> tuple[Plan, bool]:
    """The plan, and whether every image had its say; where not, or `anew`, an earlier run's is made again, and where it
    is another, its rows with it.
    """
    noted = partial.details.get("plan")
    if noted is not None:
        canvas = (noted["canvas"][0], noted["canvas"][1])
        plan = Plan(Resize.parse(noted["resize"]), canvas, noted["store"], noted["quality"], noted["page_size"])
        if partial.details.get("complete", True) and not anew:
            return plan, True
    missing = 0

    def sizes(chunk: int) -> Iterable[tuple[int, int] | None]:
        nonlocal missing
        for number, split in enumerate(rows.splits):
            work = functools.partial(size_of_row, rows, number)
            lost = functools.partial(rejected_or_refused, split.paths)
            with contextlib.closing(run(work, range(len(split)), lost=lost, chunk=chunk)) as found:
                for size in found:
                    missing += isinstance(size, Rejected)
                    yield None if isinstance(size, Rejected) else size

    made = make_plan(rows.source.fixed_size, sizes, options)
    if noted is not None and made != plan:
        partial.empty()
    return made, not missing


def _identity(rows: Rows, options: ConvertOptions, shard: shards.Shard | None) -> dict[str, Any]:
    """All that the bytes of the store depend on. What images hold is not looked at: that would be to read them all."""
    digest = hashlib.sha256()
    for split in rows.splits:
        for part in (split.name, *split.paths):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        for path, _ in split.rejected:
            digest.update(b"\0" + path.encode("utf-8", "surrogateescape"))
        for labels in (split.given_labels, split.clean_labels):
            digest.update(b"none" if labels is None else labels.astype("<i8").tobytes())
    digest.update(rows.source.stamp.encode())
    for name in rows.source.class_names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    kept = asdict(options)
    del kept["max_rejected"]  # it may be raised on the way
    return {
        "source": rows.name,
        **kept,
        **rows.told,
        "images": {split.name: len(split) for split in rows.splits},
        "shard": None if shard is None else str(shard),
        "format": FORMAT,
        "fastnoisy": __version__,
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
        "fingerprint": digest.hexdigest(),
    }


def _note_details(partial: Partial, rows: Rows, plan: Plan, complete: bool, options: ConvertOptions) -> None:
    info = {
        "format": FORMAT,
        "fastnoisy": __version__,
        "source": rows.name,
        "options": {**asdict(options), "resize": str(plan.resize), "store": plan.store, **rows.told},
        "canvas": list(plan.canvas),
        "class_names": rows.source.class_names,
    }
    noted = {**asdict(plan), "resize": str(plan.resize), "canvas": list(plan.canvas)}
    partial.note({"plan": noted, "info": info} if complete else {"plan": noted, "info": info, "complete": False})


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what is left and what to do."""
    try:
        yield
    except OSError as error:
        place = partial_path(target)
        if not place.exists():
            raise FastnoisyError(f"cannot write {target}: {error.strerror or error}", "choose another place") from None
        problem = f"cannot write {target}: {error.strerror or error}"
        remedy = "mend that"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem += f", {shutil.disk_usage(place).free / 1e6:,.1f} MB are free in {place.parent}"
            remedy = "make room"
        raise FastnoisyError(
            problem, f"{remedy} and give the same command again: it goes on where it stopped, from {place}"
        ) from None
