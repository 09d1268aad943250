"""fastnoisy from Python: `convert`, `train`, `load` and the rest. What the commands do; the commands call these.

They may be called from a thread, from a notebook and many times in one process. The caller's thread count, current GPU
and signal handlers are afterwards as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnoisy.data.conversion.correct import Correction
    from fastnoisy.data.conversion.shards import Shard
    from fastnoisy.data.conversion.tables import Summary
    from fastnoisy.grids.grid import Cell
    from fastnoisy.grids.result import Comparison
    from fastnoisy.label_audit.audit import Audit
    from fastnoisy.model_export.export import Export
    from fastnoisy.training.dry_run import DryRun
    from fastnoisy.training.logs import Observer
    from fastnoisy.training.run import Run
    from fastnoisy.training.settings import Settings
    from fastnoisy.training.stop import Stop
    from fastnoisy.workers import Status


def convert(
    source: str | Path,
    store: str | Path,
    *,
    resize: str | None = None,
    storage: str = "auto",
    quality: int = 90,
    test_fraction: float = 0.0,
    max_rejected: float = 0.05,
    workers: int | None = None,
    timeout: float = 60.0,
    shard: Shard | None = None,
    restart: bool = False,
    columns: str = "",
    labels: str | Path = "",
    labels_as: str = "",
    labels_columns: str = "",
    ray: str = "",
    progress: Callable[[Status], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Summary:
    """Convert a data set into a store: a new folder with one fast file per split.

    Args:
        source: a path, whose layout is recognised, or KIND:PATH.
        store: the folder to make.
        resize: `max=N`, `shorter=N`, `square=N` or `none`; by default none for small images, else `max=512`.
        storage: `raw` pixels, `jpg`, or `auto`: raw up to 64x64.
        quality: of the JPEGs that are made, 1 to 100.
        test_fraction: share of each class to move into a test split, where the source has one split only.
        max_rejected: share of broken images per split above which the conversion stops.
        workers: processes; by default one per core, as far as memory allows.
        timeout: seconds that one image may take.
        shard: convert a part only.
        restart: throw away what an unfinished conversion to the same store has left.
        columns: of a list of paths and labels: which column is what, `path=NAME,label=NAME`.
        labels: a file of corrections: rows by path or index, a label or `drop` each.
        labels_as: what its numbers mean, `index` or `name`, where that is not clear.
        labels_columns: which of its columns is what.
        ray: the address of a Ray cluster whose machines see the files at the same paths, or `local`; it takes the place
            of `workers` and `shard`.
        progress: called as images are done; with `ray`, as shards are.
        say: told what is odd about the source, a line each; by default a warning.

    Returns:
        What was stored and what was rejected, split by split.

    Raises:
        FastnoisyError: no data set there, a store that exists already, or too many broken images.
    """
    from fastnoisy.data.conversion import convert as conversion
    from fastnoisy.training.logs import warn

    options = conversion.ConvertOptions(
        resize=resize, store=storage, quality=quality, test_fraction=test_fraction, max_rejected=max_rejected
    )
    reading = conversion.LabelOptions(columns, str(labels), labels_as, labels_columns)
    if ray:
        from fastnoisy.data.conversion.on_ray import convert_on_ray

        return convert_on_ray(
            str(source), Path(store), ray, options=options, labels=reading, timeout=timeout, restart=restart,
            progress=progress, say=warn if say is None else say,
        )  # fmt: skip
    return conversion.convert(
        str(source), Path(store), options=options, workers=workers, timeout=timeout, shard=shard, restart=restart,
        progress=progress, say=warn if say is None else say,
        labels=reading,
    )  # fmt: skip


def correct(
    store: str | Path,
    corrections: str | Path,
    *,
    out: str | Path | None = None,
    to_folder: str | Path | None = None,
    to_csv: str | Path | None = None,
    labels_as: str = "",
    labels_columns: str = "",
    progress: Callable[[Status], None] | None = None,
    say: Callable[[str], object] | None = None,
) -> Correction:
    """Write a store down with corrected labels, without decoding an image: at least one of the three outputs.

    Args:
        store: the folder that `convert` made; it stays as it is.
        corrections: a file: rows by path or index, a label or `drop` each.
        out: a new store with the same records, byte for byte.
        to_folder: a new folder of class folders: links to the original files, the store's own images where these are
            gone.
        to_csv: a new list with the columns index, path, split and label.
        labels_as: what numbers in the file mean, `index` or `name`, where that is not clear.
        labels_columns: which of its columns is what.
        progress: called as images are done.
        say: told what the file changed, a line; by default nobody is, and the result has it as `line`.

    Raises:
        FastnoisyError: no store, a file that is not meant for it, an output that exists or cannot be written. Nothing
            is left behind then.
    """
    from fastnoisy.data.conversion import correct as correction

    return correction.correct(
        store, corrections, out=out, to_folder=to_folder, to_csv=to_csv, labels_as=labels_as,
        labels_columns=labels_columns, progress=progress, say=say,
    )  # fmt: skip


def train(
    recipe: str,
    *overrides: str,
    data: str | Path = "",
    out: str | Path | None = None,
    progress: Observer | None = None,
    stop: Stop | None = None,
) -> Run:
    """Train a recipe on a store.

    Under a launcher such as torchrun each process calls this, and they train one model together; where a run that the
    same call has begun is there, they go on with it.

    Where it raises before anything was trained, no folder stays behind; later, what is there is a run that `Run.resume`
    goes on with.

    Args:
        recipe: `<data>-<method>` such as `folder-nrd`, or a .toml file such as another run's config.toml.
        overrides: `key=value`, for example `noise=symmetric:0.4`, `epochs=20`.
        data: the folder that `convert` made; by default what the configuration says.
        out: the run folder to make; by default runs/RECIPE-NOISE-seedN.
        progress: called with an `Event` for each line, step and epoch; `print` prints them. By default notes alone
            become warnings.
        stop: asked from elsewhere (a thread, a signal handler) to stop after the step under way.

    Returns:
        The run, opened.

    Raises:
        FastnoisyError: a wrong recipe, key or store, or nothing that fits; one line says what was allowed.
        Interrupted: `stop` was asked; a checkpoint was written.
    """
    from fastnoisy.training import loop, ranks
    from fastnoisy.training.device import caller_unchanged
    from fastnoisy.training.logs import warn_of_notes
    from fastnoisy.training.run import Run
    from fastnoisy.training.run_folder import RunFolder

    settings, folder = _resolved(recipe, overrides, data, out)
    observe = warn_of_notes if progress is None else progress
    with caller_unchanged(), ranks.joined(lambda: settings) as group:
        if group.from_first(lambda: ranks.goes_on(RunFolder(folder), settings)):
            loop.resume(folder, (), str(data), observe, stop, group)
        else:
            loop.start(settings, folder, observe, stop, group)
    return Run(folder)


def dry_run(
    recipe: str,
    *overrides: str,
    data: str | Path = "",
    out: str | Path | None = None,
    progress: Observer | None = None,
) -> DryRun:
    """Resolve and open everything, train a few steps and throw them away: memory, images per second, time to the end.

    Nothing is written. Arguments and errors as for `train`.
    """
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.training import dry_run, loop, ranks
    from fastnoisy.training.device import caller_unchanged

    if ranks.launched():
        raise FastnoisyError("a dry run measures one process", "Start it without a launcher, on one GPU")
    settings, folder = _resolved(recipe, overrides, data, out)
    with caller_unchanged():
        return dry_run.run(settings, folder, loop.silent if progress is None else progress)


def load(path: str | Path, say: Callable[[str], None] | None = None) -> Run:
    """Open a run folder.

    Args:
        path: the folder given as `out`.
        say: told of what is damaged or was changed by hand, a line each; by default a warning.

    Raises:
        FastnoisyError: there is no run.
    """
    from fastnoisy.training.run import Run

    return Run(path, say)


def audit(
    data: str | Path,
    out: str | Path | None = None,
    *,
    model: str = "tf_efficientnet_lite0",
    weights: str | Path = "",
    download: bool = False,
    precision: str = "auto",
    size: int | None = None,
    folds: int | None = None,
    seed: int = 1,
    device: str = "auto",
    threads: int = 0,
    workers: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[str], Callable[[Status], None]] | None = None,
    observe: Observer | None = None,
    stop: Stop | None = None,
) -> Audit:
    """Find the labels of a store or a folder that are probably wrong, without training a network.

    Args:
        data: a store, a run, or a source as `convert` takes it, which is converted first.
        out: the folder for audit.html, issues.csv, suggestions.csv, probabilities.npz and summary.json, and for the
            store that a folder is converted into; by default `DATA-audit` beside the data.
        model: the frozen network whose features are used, by timm's name.
        weights: a file of its weights; by default those installed with fastnoisy or in timm's cache.
        download: fetch its weights where they are not on this machine.
        precision: `bf16`, `fp32`, or `auto`: bf16 where the processor computes with it natively.
        size: of the images it is shown, in pixels; by default 160, on a GPU 224.
        folds: parts into which the images are dealt, each judged by a fit to the others; by default 5. Of a run: its
            recipe is trained so often, each time without a part; by default its own network judges.
        seed: which images go into which part.
        device: auto, cpu or cuda.
        threads: CPU threads; 0: on a CPU one per core that is free of other work.
        workers: processes that convert; by default one per core, as far as memory allows.
        say: told what should be read, a line each; by default a warning.
        progress: given what a part does ("converting"), returns what is called as its images are done.
        observe: called with an `Event` for each line, step and epoch of a run's folds; by default notes alone become
            warnings.
        stop: asked from elsewhere to stop such a training after the step under way.

    Raises:
        FastnoisyError: no data, no network, too few classes, a folder that holds something else.
    """
    from fastnoisy.label_audit import audit as auditing
    from fastnoisy.training.logs import warn, warn_of_notes

    return auditing.audit(
        data, out, model=model, weights=weights, download=download, precision=precision, side=size, folds=folds,
        seed=seed, device=device, threads=threads, workers=workers, say=warn if say is None else say,
        progress=(lambda doing: lambda status: None) if progress is None else progress,
        observe=warn_of_notes if observe is None else observe, stop=stop,
    )  # fmt: skip


def sweep(
    recipes: str,
    *words: str,
    data: str | Path = "",
    out: str | Path,
    per_device: int = 1,
    ray: str = "",
    select: str = "",
    say: Callable[[str], None] | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Train a grid of runs, each a run folder in `out`; finished ones are read, begun ones go on.

    Args:
        recipes: one or more, separated by commas.
        words: `key=value` for all runs, `key=value,value,...` for an axis of the grid.
        data: the folder that `convert` made.
        per_device: runs at a time on one GPU; without a GPU, on this machine.
        ray: the address of a Ray cluster, or `local`; by default this machine without Ray.
        select: `holdout` names the point that is best on the noisy labels held out; never on test data.
        say: told what begins and ends, a line each; by default nobody is.
        stop: asked from elsewhere to have all runs write a checkpoint and end.

    Returns:
        The runs that have ended, grouped by all but their seeds.

    Raises:
        FastnoisyError: wrong words, a folder that holds another run, no Ray. A run that fails is told in the result.
    """
    from fastnoisy.grids import drive, grid, result

    tell = (lambda line: None) if say is None else say
    cells = grid.cells(recipes, words)
    if select:
        _holds_out(cells, str(data))
    stopped = (lambda: bool(stop.signal_number)) if stop is not None else (lambda: False)
    outcomes = drive.drive(cells, Path(out), str(data), per_device, ray, tell, stopped)
    found = result.of_cells(cells, outcomes, Path(out), tell)
    return replace(found, chosen=result.best_held_out(found.groups)) if select else found


def compare(*runs: str | Path, say: Callable[[str], None] | None = None) -> Comparison:
    """The numbers of runs beside one another: those that differ in their seeds alone are one group.

    Args:
        runs: run folders; the group of the first is the yardstick.
        say: told which have not ended, a line each; by default a warning.

    Raises:
        FastnoisyError: a folder holds no run, or none has ended.
    """
    from fastnoisy.grids import result
    from fastnoisy.training.logs import warn

    return result.of_runs([Path(run) for run in runs], warn if say is None else say)


def _holds_out(cells: Sequence[Cell], store: str) -> None:
    """Raise FastnoisyError where a cell of a grid holds nothing out to choose by."""
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.training import setup

    for cell in cells:
        if not setup.resolve(cell.recipe, cell.words, store).config.data.holdout:
            raise FastnoisyError("there are no labels held out to choose by", "Add for example data.holdout=0.1")


def export(run: str | Path | Run, to: str, out: str | Path, say: Callable[[str], object] | None = None) -> Export:
    """Write the network that a run reports to files that need no fastnoisy, with preprocessing and a model card.

    Args:
        run: the run, or its folder.
        to: `timm` (model.safetensors and config.json, for networks of timm's), `onnx` (model.onnx) or `torch`
            (model.pt2, a `torch.export` program).
        out: the folder to make; new or empty.
        say: told what was exported and how far the file is from the run, a line each; by default nobody is.

    Raises:
        FastnoisyError: no run or no checkpoint, a folder that is not empty, a network that the format cannot hold, or a
            package that it needs. Nothing is left behind then.
    """
    from fastnoisy.model_export import export as exporting
    from fastnoisy.training.run import Run

    opened = run if isinstance(run, Run) else load(run)
    return exporting.export(opened, to, Path(out), (lambda line: None) if say is None else say)


def _resolved(
    recipe: str, overrides: tuple[str, ...], data: str | Path, out: str | Path | None
) -> tuple[Settings, Path]:
    """The configuration, and the folder of the run."""
    from fastnoisy.errors import FastnoisyError
    from fastnoisy.training import setup

    if isinstance(out, str) and not out.strip():  # as a path it would be the current folder
        raise FastnoisyError(f"out={str(out)!r} is no folder for a run", "Name one of its own, for example runs/a")
    settings = setup.resolve(recipe, list(overrides), str(data))
    return settings, Path(out) if out is not None else Path("runs") / setup.run_name(settings, Path(recipe).stem)
