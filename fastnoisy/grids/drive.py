"""Driving a grid: its cells one after another on each device of this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fastnoisy import cluster, machine
from fastnoisy.errors import FastnoisyError
from fastnoisy.grids import cells
from fastnoisy.grids.cells import Outcome
from fastnoisy.grids.grid import Cell

Say = Callable[[str], object]
_LOOK = 0.2  # seconds


def drive(
    grid: Sequence[Cell],
    out: Path,
    store: str,
    per_device: int = 1,
    ray: str = "",
    say: Say = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Train every cell of a grid that is not finished yet.

    Args:
        out: the grid's folder; each cell is a run folder in it.
        store: what --data named.
        per_device: cells at a time on one GPU; without a GPU, on this machine.
        ray: the address of a Ray cluster, or `local`; empty: this machine without Ray.
        say: told what begins, how far it is and what has ended.
        stopped: asked now and then; where it is true all runs write their checkpoints and end.

    Returns:
        What became of each cell, in the grid's order.

    Raises:
        FastnoisyError: a cell's words are wrong, or its folder holds another run; nothing is trained then.
    """
    for cell in grid:
        cells.check(out / cell.name, cell, store)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FastnoisyError(
            f"{out} cannot be written to: {error.strerror}", "Name another folder with --out"
        ) from None
    work = _on_ray if ray else _here
    done = 0

    def told(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        what = {"found": "was finished already", "trained": f"finished in {outcome.seconds:,.0f} s"}
        what |= {"stopped": "stopped; it goes on when the same command is given again"}
        say(f"{done} of {len(grid)}: {outcome.name}: {what.get(outcome.state, f'failed: {outcome.problem}')}")

    found = work(grid, out, store, per_device, ray, say, stopped, told)
    return [found[cell.name] for cell in grid]


def _here(
    grid: Sequence[Cell], out: Path, store: str, per_device: int, ray: str, say: Say, stopped: Callable[[], bool],
    told: Callable[[Outcome], None],
) -> dict[str, Outcome]:  # fmt: skip
    """One process a cell, so many at a time on each device; a thread waits for each."""
    import torch

    gpus = torch.cuda.device_count()
    places: list[Mapping[str, str]] = [{"CUDA_VISIBLE_DEVICES": str(gpu)} for gpu in range(gpus)] or [{}]
    places = places * per_device
    if not gpus and per_device > 1:
        places = [{"OMP_NUM_THREADS": str(max(1, machine.cores() // per_device))}] * per_device
    left: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in grid:
        left.put(cell)
    found: dict[str, Outcome] = {}
    lock = threading.Lock()

    def work(place: Mapping[str, str]) -> None:
        while True:
            try:
                cell = left.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = cells.train(out / cell.name, cell, store, place, stopped, say)
            except (OSError, FastnoisyError) as error:
                outcome = Outcome(cell.name, "failed", problem=str(error))
            with lock:
                found[cell.name] = outcome
                told(outcome)

    threads = [threading.Thread(target=work, args=(place,), name="sweep") for place in places[: len(grid)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # with a timeout, so that signals are handled meanwhile
            thread.join(_LOOK)
    return found


def _on_ray(
    grid: Sequence[Cell], out: Path, store: str, per_device: int, ray: str, say: Say, stopped: Callable[[], bool],
    told: Callable[[Outcome], None],
) -> dict[str, Outcome]:  # fmt: skip
    """A Ray task a cell: on a GPU of the cluster or a part of one, where it has GPUs, else on a core."""
    found: dict[str, Outcome] = {}
    with cluster.connected(ray) as engine:
        gpus = engine.cluster_resources().get("GPU", 0)
        need: dict[str, float] = {"num_gpus": 1 / per_device} if gpus else {"num_cpus": 1}
        where, data = out.absolute(), store and str(Path(store).absolute())
        given = {cell.name: (str(where / cell.name), cell, data) for cell in grid}
        for name, outcome in cluster.run(engine, _task, given, need, stopped):
            failed = isinstance(outcome, FastnoisyError)
            found[name] = Outcome(name, "failed", problem=str(outcome)) if failed else outcome
            told(found[name])
    for cell in grid:  # whose runs got SIGTERM when their workers went, and write their checkpoints
        if cell.name not in found:
            found[cell.name] = Outcome(cell.name, "stopped")
            told(found[cell.name])
    return found


def _task(folder: str, cell: Cell, store: str) -> Outcome:
    return cells.train(Path(folder), cell, store)
