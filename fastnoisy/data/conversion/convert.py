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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg

from fastnoisy import __version__
from fastnoisy.data.conversion import shards
from fastnoisy.data.conversion import shrink as shrink_module
from fastnoisy.data.conversion.corrected import LabelOptions, correct_splits
from fastnoisy.data.conversion.encode import Plan, Resize, encode, upright_size
from fastnoisy.data.conversion.journal import Part, Partial, partial_path, refuse_existing
from fastnoisy.data.conversion.options import ConvertOptions, hold_out_test, make_plan
from fastnoisy.data.conversion.outcome import Outcome, Rejected, Stored
from fastnoisy.data.conversion.read_errors import may_be_mended
from fastnoisy.data.conversion.shrink import Shrink
from fastnoisy.data.conversion.tables import SplitSummary, Summary, check_rejected, finish_store
from fastnoisy.data.sources.base import Source, SourceSplit, open_source
from fastnoisy.data.store.meta import FORMAT
from fastnoisy.errors import FastnoisyError, one_line
from fastnoisy.machine import num_workers
from fastnoisy.workers import TIMEOUT, Lost, Progress, Status, check_timeout, ordered

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
    rows = _Rows(source, options.test_fraction, labels or LabelOptions())
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
        try:
            plan, complete = _plan(partial, rows, options, run)
        except FastnoisyError:
            if not partial.details:
                partial.discard()
            raise
        _note_details(partial, rows, plan, complete, options)
        with contextlib.ExitStack() as open_parts:
            parts = []
            for split in splits:
                todo = range(len(split)) if shard is None else shard.rows(len(split))
                parts.append(Part(partial, split.name, todo, split.given_labels, plan.page_size))
                open_parts.callback(parts[-1].close)
            for number, (part, split) in enumerate(zip(parts, splits, strict=True)):
                work = functools.partial(_encode_row, rows, number, plan, Shrink())
                _try_again(part, work, run, split.paths)
                check_rejected(part, split, options.max_rejected)
            counter = Counter(progress, parts, say)
            shrink = _compiled(rows, plan, [range(part.next_row, part.rows.stop) for part in parts], run)
            for number, (part, split) in enumerate(zip(parts, splits, strict=True)):
                todo = range(part.next_row, part.rows.stop)
                work = functools.partial(_encode_row, rows, number, plan, shrink)
                lost = functools.partial(_lost, split.paths)
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


class _Rows:
    """The splits of a source. In a process that is not forked they are opened again."""

    def __init__(self, source: str, test_fraction: float, labels: LabelOptions) -> None:
        self._arguments = (source, test_fraction, labels)
        self.source: Source
        self.source, self.name = open_source(source, labels.columns)
        self.splits = self.source.splits
        if test_fraction:
            self.splits = hold_out_test(self.splits, test_fraction)
        # after that, so that which images are test images does not depend on corrections
        self.splits, self.lines = correct_splits(self.splits, self.source.class_names, self.name, labels)
        self.told = labels.told()
        self.readable: dict[int, int] = {}  # of each split the last row whose image this process has read

    def __reduce__(self) -> tuple[Any, ...]:
        return _Rows, self._arguments

    def may_be_mended(self, number: int, row: int, error: OSError | FastnoisyError) -> bool:
        """See `faults.may_be_mended`. Where a list's image is missing, one that has been read is looked for: if it has
        gone, too, the disk has, and with it any image.
        """
        split = self.splits[number]
        again = may_be_mended(error, split.paths[row], self.source.listed)
        if again and number in self.readable:
            witness = self.readable[number]
            try:
                split.read(witness)
            except (OSError, FastnoisyError) as gone:
                may_be_mended(gone, split.paths[witness], listed=True)
        return again


def _encode_row(rows: _Rows, number: int, plan: Plan, shrink: Shrink, row: int) -> Outcome:
    """In a worker: what becomes of row `row` of split `number`."""
    split = rows.splits[number]
    failed: list[OSError | FastnoisyError] = []

    def read() -> bytes | np.ndarray:
        try:
            return split.read(row)
        except (OSError, FastnoisyError) as error:
            failed.append(error)
            raise

    result = encode(read, plan, shrink)
    if isinstance(result, Rejected):
        return replace(result, retry=any(rows.may_be_mended(number, row, error) for error in failed))
    rows.readable[number] = row
    return result


def _lost(paths: Sequence[str], lost: Lost) -> Rejected:
    """What becomes of a row whose worker died each time.

    Raises:
        FastnoisyError: that says nothing of the image: what is stored must not depend on the machine.
    """
    if lost.by_machine:
        raise FastnoisyError(
            f"{one_line(paths[lost.item])}: {lost.reason}",
            "free or add memory, raise ulimit -v, or remove the file, and give the same command again: it goes on where"
            " it stopped",
        )
    return Rejected(lost.reason, retry=True)


def _size_of_row(rows: _Rows, number: int, row: int) -> tuple[int, int] | Rejected | None:
    """In a worker: (height, width) by the header; None for what is no image, `Rejected` where that may be mended."""
    split = rows.splits[number]
    try:
        content = split.read(row)
    except (OSError, FastnoisyError) as error:
        return Rejected(str(error), retry=True) if rows.may_be_mended(number, row, error) else None
    rows.readable[number] = row
    return upright_size(content)


def _is_made_smaller(rows: _Rows, number: int, plan: Plan, sample: range, i: int) -> bool:
    """In a worker: whether an image of the sample will be made smaller, by its header."""
    try:
        size = upright_size(rows.splits[number].read(sample[i]))
    except (OSError, FastnoisyError):
        return False
    return size is not None and plan.resize.apply(*size) < size


def _compiled(rows: _Rows, plan: Plan, todo: list[range], run: Callable[..., Generator[Any, None, None]]) -> Shrink:
    """What makes images smaller, compiled where, by a few of the longest split, it pays."""
    shrink = Shrink()
    number = max(range(len(todo)), key=lambda i: len(todo[i]))
    count = len(todo[number])
    if plan.resize.kind == "none" or count < shrink_module.WORTH_IMAGES:
        return shrink
    sample = todo[number][:: max(1, count // 32)]
    work = functools.partial(_is_made_smaller, rows, number, plan, sample)
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
    lost = functools.partial(_lost, [paths[row] for row in rows])
    with contextlib.closing(run(functools.partial(_work_of, work, rows), range(len(rows)), lost=lost)) as results:
        for row, result in zip(rows, results, strict=True):
            if not isinstance(result, Rejected) or not result.retry:
                part.forget(row)
                return


def _work_of(work: Callable[[int], Any], rows: list[int], i: int) -> Any:
    return work(rows[i])


def _plan(
    partial: Partial, rows: _Rows, options: ConvertOptions, run: Callable[..., Generator[Any, None, None]]
) -> tuple[Plan, bool]:
    """The plan, and whether every image had its say; where not, an earlier run's is made again, and its rows with
    it.
    """
    noted = partial.details.get("plan")
    if noted is not None:
        canvas = (noted["canvas"][0], noted["canvas"][1])
        plan = Plan(Resize.parse(noted["resize"]), canvas, noted["store"], noted["quality"], noted["page_size"])
        if partial.details.get("complete", True):
            return plan, True
    missing = 0

    def sizes(chunk: int) -> Iterable[tuple[int, int] | None]:
        nonlocal missing
        for number, split in enumerate(rows.splits):
            work = functools.partial(_size_of_row, rows, number)
            lost = functools.partial(_lost, split.paths)
            with contextlib.closing(run(work, range(len(split)), lost=lost, chunk=chunk)) as found:
                for size in found:
                    missing += isinstance(size, Rejected)
                    yield None if isinstance(size, Rejected) else size

    made = make_plan(rows.source.fixed_size, sizes, options)
    if noted is not None and made != plan:
        partial.empty()
    return made, not missing


def _identity(rows: _Rows, options: ConvertOptions, shard: shards.Shard | None) -> dict[str, Any]:
    """All that the bytes of the store depend on. What images hold is not looked at: that would be to read them all."""
    digest = hashlib.sha256()
    for split in rows.splits:
        for part in (split.name, *split.paths):
            digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
        for path, _ in split.rejected:
            digest.update(b"\0" + path.encode("utf-8", "surrogateescape"))
        for labels in (split.given_labels, split.clean_labels):
            digest.update(b"none" if labels is None else labels.astype("<i8").tobytes())
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


def _note_details(partial: Partial, rows: _Rows, plan: Plan, complete: bool, options: ConvertOptions) -> None:
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
