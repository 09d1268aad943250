"""Numbers of an evaluation against golden values and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastnoisy.training import evaluate


def test_calibration_error_equals_the_reference(golden: Callable[[str], Any]) -> None:
    data = golden("ece_equiradial")
    logits = torch.tensor(data["inputs"]["logits"], dtype=torch.float64)
    labels = torch.tensor(data["inputs"]["labels"])
    assert evaluate.classification(logits, labels)["ece"] == pytest.approx(data["outputs"]["ece"]["15"], abs=1e-6)


def test_calibration_error_of_saturated_and_borderline_confidences() -> None:
    """Bins are (lo, hi]: a confidence of exactly 1 falls into the last of them, with 0.97 and the like."""
    logits = torch.full((4, 2), 0.0, dtype=torch.float64)
    logits[:2, 0], logits[2:, 0] = 800.0, 3.5  # confidences 1, 1, 0.97, 0.97
    labels = torch.tensor([0, 0, 0, 1])
    confidence = logits.softmax(1)[:, 0]
    assert confidence[0] == 1
    expected = abs(confidence.mean().item() - 0.75)
    assert evaluate.classification(logits, labels)["ece"] == pytest.approx(expected, abs=1e-6)


def test_accuracy_and_top5() -> None:
    logits = torch.eye(8)
    logits[0] = torch.tensor([0, 5, 4, 3, 2, 1, -1, -2.0])  # its class is sixth
    found = evaluate.classification(logits, torch.arange(8))
    assert found["accuracy"] == pytest.approx(7 / 8)
    assert found["top5"] == pytest.approx(7 / 8)
    assert "top5" not in evaluate.classification(torch.eye(3), torch.arange(3))
    table = evaluate.per_class(logits[:7], torch.tensor([0, 1, 2, 3, 4, 5, 5]), [f"c{i}" for i in range(8)])
    assert [row["images"] for row in table] == [1, 1, 1, 1, 1, 2, 0, 0]
    assert [row["accuracy"] for row in table] == [0, 1, 1, 1, 1, 0.5, None, None]


def test_memorisation_and_suspects() -> None:
    given = torch.tensor([0, 1, 2, 0, 1])
    clean = torch.tensor([0, 1, 0, 1, 2])
    predicted = torch.tensor([0, 1, 2, 1, 0])
    found = evaluate.memorisation(predicted, given, clean)
    assert found == {"accuracy_given": 0.6, "accuracy_clean": pytest.approx(0.6), "memorised": pytest.approx(1 / 3)}
    probability = torch.tensor([0.9, 0.2, 0.8, 0.1, 0.15])
    assert evaluate.suspects_found(probability, given, clean) == pytest.approx(2 / 3)
    assert evaluate.suspects_found(probability, clean, clean) is None
    assert "memorised" not in evaluate.memorisation(predicted, clean, clean)
