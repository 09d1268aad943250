"""GJS: a generalised Jensen-Shannon divergence between the label and the predictions on several views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field

from fastnoisy import losses
from fastnoisy.config import Table
from fastnoisy.methods.base import Context, Forward, Method, Progress, Record, StepBatch, Stream
from fastnoisy.models.heads import Network


class GeneralizedJensenShannon(Method):
    """GJS: Jensen-Shannon divergence between label and predictions on two draws of the view, so that they agree.

    loss = Z * JSD_(w, (1-w)/2, (1-w)/2)(e_y, p(x_1), p(x_2)), Z = -1 / ((1-w) ln(1-w)), gradient through both views,
    which are two independent draws of the student's program (more with `views`, each weighted (1-w)/views). One
    network. Englesson & Azizpour, "Generalized Jensen-Shannon Divergence Loss for Learning with Noisy Labels", NeurIPS
    2021. Each view has BatchNorm statistics of its own; with `concatenate` one forward sees all views at once. The
    record is
    of the first view alone: around GJS, ALASCA's heads, memory and correction use that one, as around NRD the
    student's. With `concatenate` the heads run on every view, because their BatchNorm shares the pass; only the first
    view's logits are used.
    """

    class Options(Table):
        """Options of GJS."""

        weight: float = Field(0.3, gt=0, lt=1, description="pi1, the label's; the views share 1 - pi1 (Table 5)")
        normalize: Literal["gjs", "none"] = Field("gjs", description="Z of the GJS code, or the bare divergence (N1)")
        views: int = Field(2, ge=2, le=16, description="draws of the student's view per step")
        concatenate: bool = Field(False, description="one forward over all views: they share BatchNorm statistics")

    suite = "nrd"
    options: Options

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.networks.append(context.network())
        self.view_names = ("student", *(f"student_{i}" for i in range(2, options.views + 1)))
        self.weights = (options.weight, *[(1 - options.weight) / options.views] * options.views)
        self.streams = {"train": Stream(views=dict.fromkeys(self.view_names, "student"))}

    def step(self, batches: Mapping[str, StepBatch], progress: Progress) -> Record:
        """Forward of every view, divergence between the label and all predictions."""
        batch = batches["train"]
        images = [batch.views[name] for name in self.view_names]
        network = self.networks[0]
        assert isinstance(network, Network)
        if self.options.concatenate:
            out = network(torch.cat(images))
            logits = list(out.logits.chunk(len(images)))
            sub_logits = tuple(z[: len(batch.labels)] for z in out.sub_logits)
        else:
            out = network(images[0])
            logits = [out.logits, *(network.backbone(view) for view in images[1:])]
            sub_logits = out.sub_logits
        loss = losses.generalized_jensen_shannon(
            logits, batch.labels, self.weights, self.options.normalize == "gjs", "mean"
        )
        agree = torch.stack([z.argmax(dim=1) == logits[0].argmax(dim=1) for z in logits[1:]]).float().mean()
        forward = Forward(0, logits[0], sub_logits, batch.labels, batch.indices)
        return Record(loss, [forward], {"view_agreement": agree})


METHOD = GeneralizedJensenShannon
