"""What a run says of itself before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastnoisy import pipelines
from fastnoisy.training import precision
from fastnoisy.training.setup import Setup


def lines(setup: Setup, pipeline: str, why: str, needs: Sequence[str]) -> list[str]:
    """What will be trained on what, how, and what the user may not expect.

    Args:
        pipeline, why: the chosen pipeline and one line saying why.
        needs: of the pre-flight check.
    """
    c, labels, said = setup.config, setup.labels, []
    trained = sum(p.numel() for p in setup.method.parameters() if p.requires_grad)
    said.append(
        f"{c.recipe or c.method['name']}: method {setup.settings.method}, suite {c.suite or 'none'}, "
        f"model {c.model['name']}, {trained:,} parameters, seed {c.seed}"
    )
    schedule = "throughout"
    if c.optim.schedule == "cosine":
        schedule = f"by a cosine to 0, after {c.optim.warmup:g} epochs of warm-up"
    elif c.optim.milestones:
        schedule = f"x {c.optim.gamma:g} at epochs {c.optim.milestones}"
    if c.optim.decay != 1:
        schedule = f"x {c.optim.decay:g} every epoch" + (f", {schedule}" if c.optim.milestones else "")
    said.append(
        f"{c.epochs} epochs, batch {c.batch_size}, lr {c.optim.lr:g} {schedule}, weight decay "
        f"{c.optim.weight_decay:g}; "
        f"{c.row or 'numbers of the recipe itself'}"
    )
    rows, given, clean = labels.train, labels.given, labels.clean
    wrong = f", {(given[rows] != clean[rows]).mean():.2%} of the labels wrong" if clean is not None else ""
    held = f", {len(labels.holdout):,} held out" if len(labels.holdout) else ""
    said.append(
        f"{c.data.store}: {len(rows):,} images, {setup.method.num_classes} classes, noise {c.noise}{wrong}{held}"
    )
    if c.data.draw:
        count = len(setup.populations["train"])
        short = f", fewer than data.draw={c.data.draw:,}: some classes have no more" if count < c.data.draw else ""
        said.append(f"every epoch trains on a fresh draw of {count:,} images, as many of each class{short}")
    if c.select:
        said.append(
            f"the reported model is that of the epoch best on {c.select} (select={c.select}), not the last epoch's"
        )
    who = {view.executor for made in setup.views.values() for view in made.values()}
    said.append(
        f"pipeline {pipeline}: {why}; device {setup.device}, {torch.get_num_threads()} threads, "
        f"{precision.told(c, setup.device)}, views by {' and '.join(sorted(who))}"
    )
    if pipelines.find(pipeline).synthetic:
        said.append(
            f"note: pipeline {pipeline} shows made-up pixels, none of {c.data.store}: this run measures speed, learns "
            "nothing "
            "and writes no issues.csv"
        )
    said += [line for line in [*setup.notes, *needs] if line]
    if c.optim.milestones and min(c.optim.milestones) >= c.epochs:
        said.append(f"note: lr never falls: all milestones {c.optim.milestones} lie beyond the {c.epochs} epochs")
    if not setup.eval_sets:
        said.append("note: the store has no test split, so nothing is evaluated; name a set with eval.NAME=STORE")
    return said
