"""Augmentation: operations with Pillow's pixels on whole batches, per-sample policies, and views made of them."""

from fastnoisy.augment.kornia_modules import KorniaAugMix, KorniaOp, KorniaRandAugment, KorniaView
from fastnoisy.augment.ops import apply_op, op_names
from fastnoisy.augment.program import ViewProgram, parse_view
from fastnoisy.augment.steps import step_docs, step_names
from fastnoisy.augment.views import View

__all__ = [
    "KorniaAugMix",
    "KorniaOp",
    "KorniaRandAugment",
    "KorniaView",
    "View",
    "ViewProgram",
    "apply_op",
    "op_names",
    "parse_view",
    "step_docs",
    "step_names",
]
