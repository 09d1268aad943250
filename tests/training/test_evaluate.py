"""Numbers of an evaluation against golden values and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy.training import evaluate


def test_calibration_error_equals_the_reference(golden: Callable[[str], Any]) -> None:
    data = golden("ece_equiradial")
    logits = torch.tensor(data["inputs"]["logits"], dtype=torch.float64)
    labels = torch.tensor(data["inputs"]["labels"])
    assert evaluate.classification(logits, labels)["ece"] == pytest.approx(data["outputs"]["ece"]["15"], abs=1e-12)


def test_calibration_error_of_saturated_and_borderline_confidences() -> None:
    """Bins are (lo, hi]: a confidence of exactly 1 falls into the last of them, with 0.97 and the like."""
    logits = torch.full((4, 2), 0.0, dtype=torch.float64)
    logits[:2, 0], logits[2:, 0] = 800.0, 3.5  # confidences 1, 1, 0.97, 0.97
    labels = torch.tensor([0, 0, 0, 1])
    confidence = logits.softmax(1)[:, 0]
    assert confidence[0] == 1
    expected = abs(confidence.mean().item() - 0.75)
    assert evaluate.classification(logits, labels)["ece"] == pytest.approx(expected, abs=1e-12)


def two_classes(confidence: list[float], right: list[bool]) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of class 0 so confident, and labels that it is right for or not."""
    first = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([first, torch.zeros_like(first)], dim=1), torch.tensor([0 if yes else 1 for yes in right])


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([9 / 15, 9.5 / 15], [True, False], (6 / 15 + 9.5 / 15) / 2),  # an edge: the lower bin, so two gaps that add up
        ([9 / 15, 8.5 / 15], [True, False], abs(1 - 17.5 / 15) / 2),  # one bin: the gaps cancel
        ([1.0, 14.5 / 15], [False, True], abs(1 - 29.5 / 15) / 2),  # 1 is in the last bin
        ([0.0, 1 / 15], [False, True], abs(1 - 1 / 15) / 2),  # 0 is in the first
        ([1.0, 1.0], [True, True], 0.0),
        ([0.75], [True], 0.25),
    ],
)
def test_calibration_error_by_hand(confidence: list[float], right: list[bool], expected: float) -> None:
    found = evaluate.expected_calibration_error(*two_classes(confidence, right))
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("edge", range(1, 15))
def test_every_edge_belongs_to_the_lower_bin(edge: int) -> None:
    """With a neighbour of the lower bin the gaps cancel, with one of the upper bin they add up."""
    here, apart = edge / 15, np.nextafter(edge / 15, 1)
    lower = evaluate.expected_calibration_error(*two_classes([here, (edge - 0.5) / 15], [True, False]))
    assert lower == pytest.approx(abs(1 - (2 * edge - 0.5) / 15) / 2, abs=1e-15)
    upper = evaluate.expected_calibration_error(*two_classes([here, apart], [True, False]))
    assert upper == pytest.approx(((1 - here) + apart) / 2, abs=1e-15)


def test_calibration_error_equals_a_loop_over_the_bins() -> None:
    random = np.random.default_rng(0)
    for n, classes in ((1, 2), (7, 3), (2000, 10), (500, 100)):
        probabilities = random.dirichlet(np.full(classes, 0.2), n)
        labels = random.integers(0, classes, n)
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        total = 0.0
        for number in range(15):
            inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
            if inside.any():
                total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        found = evaluate.expected_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels))
        assert found == pytest.approx(total, abs=1e-12)
    assert np.isnan(evaluate.expected_calibration_error(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


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
