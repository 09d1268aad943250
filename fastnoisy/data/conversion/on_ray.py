"""Conversion on a Ray cluster: a task for each shard, on a file system that all machines see, and then the merge."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from fastnoisy import cluster
from fastnoisy.data.conversion.convert import ConvertOptions, LabelOptions, convert, merge
from fastnoisy.data.conversion.journal import refuse_existing
from fastnoisy.data.conversion.shards import Shard
from fastnoisy.data.conversion.tables import Summary
from fastnoisy.errors import FastnoisyError
from fastnoisy.workers import Status


def convert_on_ray(
    source: str,
    out: Path,
    address: str,
    *,
    options: ConvertOptions,
    labels: LabelOptions,
    timeout: float,
    restart: bool = False,
    progress: Callable[[Status], None] | None = None,
    say: Callable[[str], object] = print,
) -> Summary:
    """Convert a data set as tasks of a Ray cluster; the store has the bytes that one machine would have written.

    A task whose process or machine is lost is tried again, and goes on from its journal. What is started again goes on
    from the shards that are there.

    Args:
        address: of the cluster, or `local`; see `cluster.connected`.
        progress: called with the number of shards that are done.

    Raises:
        FastnoisyError: as `convert`; no cluster.
    """
    out = out.absolute()
    refuse_existing(out)
    with cluster.connected(address) as ray:
        count = _begun(out) or max(1, int(ray.cluster_resources().get("CPU", 1)))
        given = {
            str(index): (os.getcwd(), source, str(out), Shard(index, count), options, labels, timeout, restart)
            for index in range(count)
        }
        done, problem = 0, None
        for name, found in cluster.run(ray, _shard, given, {"num_cpus": 1}):
            if isinstance(found, FastnoisyError):
                problem = problem or FastnoisyError(f"shard {name} of {count}: {found.message}", found.remedy)
                continue
            done += 1
            say(f"shard {name} of {count}: {found} images; {done} done")
            if progress is not None:
                progress(Status(done, count))
    if problem is not None:
        raise problem
    summary = merge(out, max_rejected=options.max_rejected, restart=restart, say=say)
    for index in range(count):
        shutil.rmtree(Shard(index, count).path(out), ignore_errors=True)
    return summary


def _shard(
    folder: str, source: str, out: str, shard: Shard, options: ConvertOptions, labels: LabelOptions, timeout: float,
    restart: bool,
) -> int:  # fmt: skip
    """A task; how many images are stored. What a lost one has left is gone on from, so it is never thrown away."""
    os.chdir(folder)  # paths are as the user gave them
    said: list[str] = []
    summary = convert(
        source, Path(out), options=options, labels=labels, workers=1, timeout=timeout, shard=shard, restart=restart,
        say=said.append,
    )  # fmt: skip
    return sum(split.stored for split in summary.splits)


def _begun(out: Path) -> int:
    """Of how many shards a conversion to `out` was begun; 0 where there is none."""
    pattern = re.compile(rf"\.?{re.escape(out.name)}\.shard-\d+-of-(\d+)(\.partial)?")
    names = (pattern.fullmatch(path.name) for path in (out.parent.iterdir() if out.parent.is_dir() else ()))
    return max((int(found[1]) for found in names if found), default=0)
