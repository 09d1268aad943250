"""The model card beside an export: data, training, noise estimate, accuracy and limits, from what the run recorded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from fastnoisy import __version__
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError, one_line
from fastnoisy.model_export import preprocessing
from fastnoisy.model_export.formats import Written
from fastnoisy.models.weights import PACKAGED
from fastnoisy.training.eval_sets import EvalSet, eval_sets
from fastnoisy.training.precision import amp_dtype_of
from fastnoisy.training.run import Run, is_unchecked

_SHOWN = 100  # classes
_METADATA = "---\nlibrary_name: timm\ntags:\n- image-classification\n- timm\n---\n"


def card(run: Run, to: str, written: Written, files: list[str]) -> str:
    """The text of README.md.

    Args:
        to: the format.
        files: what lies beside it, by name.
    """
    store, sets, problem = _data_of(run)
    parts = [
        (_METADATA if to == "timm" else "") + f"# {_name(run)}\n\n{_summary(run, written)}",
        "## Use\n\n```python\n" + written.usage + "```\n\n" + "\n".join(_use(run, written, files)),
        "## Data\n\n" + "\n".join(_data(run, store, problem)),
        "## Training\n\n" + "\n".join(_training(run)),
        "## Noise estimate\n\n" + _noise(run),
        "## Accuracy\n\n" + _accuracy(run, written, sets),
        "## Limits\n\n" + "\n".join(_limits(run)),
    ]
    return "\n\n".join(parts) + "\n"


def difference(written: Written) -> str:
    """How far the file is from the run, a few words."""
    if written.difference is None:
        return "not compared with the run: onnxruntime is not installed"
    count = len(written.exported.images)
    largest = float(written.exported.logits.abs().max())
    return f"largest difference of a logit from the run's {written.difference:.2g}, of {largest:.3g}, on {count} images"


def _name(run: Run) -> str:
    return one_line(f"{run.config.model['name']}, trained by {run.config.recipe or run.config.method['name']}")


def _summary(run: Run, written: Written) -> str:
    exported = written.exported
    kind = f"An image classifier of {len(run.class_names):,} classes. It gives {exported.what}."
    if exported.predictor == exported.reported:
        return kind
    return f"{kind} The run itself reports `{exported.reported}`, which is more than this network: see Accuracy."


def _use(run: Run, written: Written, files: list[str]) -> list[str]:
    height, width = preprocessing.input_size(run)
    lines = [
        f"* Input: float32 images (batch, 3, {height}, {width}), RGB. `preprocessing.json` says, step by step, how a "
        "file becomes one.",
        "* Output: logits; their softmax is the probabilities of the classes of `classes.txt`, in its order.",
        f"* Compared after writing: {difference(written)}, which were of random pixels.",
    ]
    if "config.json" in files:
        lines.append("* `config.json` is laid out as timm's repositories have it.")
    return lines + [f"* {note}" for note in written.notes]


def _data(run: Run, store: dict[str, int], problem: str) -> list[str]:
    labels, names = run.labels, run.class_names
    lines = [f"* Data set: `{one_line(Path(run.config.data.store).name)}`, a fastnoisy store."]
    if store:
        lines.append("* Images: " + ", ".join(f"{name} {count:,}" for name, count in store.items()) + ".")
    else:
        lines.append(f"* Images: the store could not be read when this card was written ({problem}).")
    kept = f"* Trained on: {len(labels.train):,} images"
    lines.append(kept + (f"; {len(labels.holdout):,} were held out." if len(labels.holdout) else "."))
    if run.config.labels:
        lines.append(f"* Labels were corrected by the file `{one_line(Path(run.config.labels).name)}`.")
    shown = ", ".join(f"`{one_line(name)}`" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN:,} more, in `classes.txt`" if len(names) > _SHOWN else ""
    return [*lines, f"* Classes: {shown}{more}."]


def _training(run: Run) -> list[str]:
    config, found = run.config, run.checkpoint
    base = run.settings.method.base
    method = run.settings.method.name + (f" around {base.name}" if base is not None else "")
    done = found.position.epoch
    epochs = f"{config.epochs:,}" if done >= config.epochs else f"{done:,} of {config.epochs:,}"
    chosen = f", chosen on `{config.select}`" if config.select else ""
    recipe, suite = one_line(config.recipe) or "one of its own", config.suite or "none"
    return [
        f"* Recipe: `{recipe}`, suite `{suite}`; method {method}.",
        f"* Network: `{config.model['name']}`; {_start(run)}.",
        f"* Epochs: {epochs}{chosen}; batch {config.batch_size:,}; seed {config.seed}.",
        f"* Trained with fastnoisy {found.machine['fastnoisy']} and torch {found.machine['torch']} on "
        f"{found.machine['device']}; exported with fastnoisy {__version__} and torch {torch.__version__}.",
    ]


def _start(run: Run) -> str:
    """What its weights were before the training."""
    model = run.config.model
    if not model.get("pretrained"):
        return "trained from random weights"
    digest = f" (sha256 `{model['sha256']}`)" if model.get("sha256") else ""
    if model.get("weights"):
        return f"trained from the pretrained weights `{one_line(Path(model['weights']).name)}`{digest}"
    packaged = PACKAGED.get(model["name"])
    if packaged is not None and model.get("sha256") == packaged.sha256:
        return f"trained from the ImageNet weights of the package `{packaged.package}`{digest}"
    return f"trained from timm's pretrained weights of `{model['name']}`{digest}"


def _noise(run: Run) -> str:
    final, labels, spec = run.final, run.labels, run.settings.noise
    lines = []
    if spec.kind != "none":
        words = " ".join(part for part in (spec.kind, f"{spec.rate:g}" if spec.rate else "") if part)
        lines.append(f"Labels were made wrong on purpose, by `noise={words.replace(' ', ':')}`.")
    if labels.clean is not None:
        wrong = int((labels.given != labels.clean)[labels.train].sum())
        total = len(labels.train)
        lines.append(
            f"Against the clean labels {wrong:,} of {total:,} training labels ({wrong / total:.1%}) are wrong."
        )
    if final is None:
        lines.append("The run had not ended when this was written, so there is no estimate.")
    elif "issues" not in final:
        lines.append("There is no estimate: the run was trained on made-up pixels.")
    else:
        rows, wrong = final["issues"]["rows"], final["issues"]["estimated_wrong"]
        lines.append(
            f"By estimate {wrong:,} of {rows:,} training labels ({wrong / max(1, rows):.1%}) are wrong: so many the "
            "confident joint of the run's own predictions counts, on the images that it was trained on. Wrong labels "
            "that it has memorised it does not count."
        )
    return " ".join(lines)


def _accuracy(run: Run, written: Written, sets: dict[str, EvalSet]) -> str:
    final, exported = run.final, written.exported
    if final is None or not final["eval"]:
        why = "had not ended when this was written" if final is None else "had no set to be evaluated on"
        return f"The run {why}, so no accuracy is stated."
    lines = ["| set | what answers | top-1 % | top-5 % | ECE % | labels |", "|---|---|---:|---:|---:|---|"]
    for name, predictors in final["eval"].items():
        for predictor in dict.fromkeys((exported.predictor, exported.reported)):
            if predictor in predictors:
                whose = "this file" if predictor == exported.predictor else "the run, not this file"
                row = (f"{one_line(name)}", f"`{predictor}`: {whose}", *_cells(predictors[predictor]))
                lines.append(f"| {' | '.join(row)} | {_checked(name, sets)} |")
    if not exported.predictor:
        lines.append("\nThis very network was not evaluated.")
    machine = run.checkpoint.machine
    dtype = amp_dtype_of(run.config, machine["bf16"])
    if dtype is not None:
        name = "fp16" if dtype == torch.float16 else "bf16"
        lines.append(f"\nMeasured under autocast to {name}; the file computes in float32.")
    return "\n".join(lines)


def _cells(numbers: dict[str, float]) -> list[str]:
    return [f"{100 * numbers[key]:.2f}" if key in numbers else "-" for key in ("accuracy", "top5", "ece")]


def _checked(name: str, sets: dict[str, EvalSet]) -> str:
    """How far the labels of a set can be trusted."""
    if name == "holdout":
        return "as given, noise included: some may be wrong"
    found = sets.get(name)
    if found is None:
        return "not known: the data could not be read"
    if found.corrected is not None:
        return "with the corrections of the label file"
    if is_unchecked(found.split):
        return "unchecked: some may be wrong"
    return "clean" if found.split.clean_labels is not None else "corrected in the store"


def _data_of(run: Run) -> tuple[dict[str, int], dict[str, EvalSet], str]:
    """Images per split and the sets of the evaluation, where the data are still there; else why not."""
    with ExitStack() as opened:
        try:
            store = opened.enter_context(open_store(Path(run.config.data.store)))
            counts = {name: split.num_samples for name, split in store.splits.items()}
            sets = eval_sets(run.config, store, run.class_names, run.labels)
        except FastnoisyError:
            return {}, {}, "it has moved, or has changed since"
        return counts, {item.name: item for item in sets}, ""


def _limits(run: Run) -> list[str]:
    lines = [
        f"* It knows these {len(run.class_names):,} classes alone: an image of anything else gets one of them too.",
        "* Labels of its training images may be wrong, and what they mislabel alike it may have learnt.",
        "* The accuracies are of the sets that are named; on images of another origin nothing was measured.",
        "* Accuracy of single classes or of groups of people, and robustness, are not part of this card.",
        "* The licences of the training images and of pretrained weights are not recorded here.",
    ]
    if run.final is not None and "issues" not in run.final:
        lines.insert(0, "* It was trained on made-up pixels and has learnt nothing.")
    return lines
