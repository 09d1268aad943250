"""Which labels are wrong: our flags beside cleanlab's, on the same probabilities and on its own, from several sources.

    python benchmarks/label_issues.py --cifar10 stores/cifar10 --digits stores/digits folders/uniform-0.2-0 --work work

Sources of probabilities, the first four out of sample, on features of the frozen network that `fastnoisy audit` takes:
the audit's linear classifier in two passes, and linear classifiers trained in one pass by GCE, ELR and NRD; then runs
of NRD and ALASCA, which have seen the labels. On each, our flags (as many as the calibrated confident joint counts, the
least self-confident first, where another class is likelier) and cleanlab's `find_label_issues`. *Its own*: cleanlab's
CleanLearning with a logistic regression on the same features, by probabilities that it cross-validates itself.

`--cifar10` needs `CIFAR-10_human.pt` in the store's folder: 10,000 images with the labels `human:worse`. `--digits`:
40 % symmetric. Each FOLDER holds `photos/` and `truth.csv`. Ranking is by self-confidence; differences are paired, with
the standard error of 1,000 bootstrap samples. What `--work` holds is not done again. cleanlab must be installed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from _report import command, markdown, run, train, write
from audit import table_of, tiny_folder
from cifar10n import WORDS as CIFAR10N
from torch import Tensor
from torch.nn import functional

import fastnoisy
from fastnoisy import confident_learning, losses
from fastnoisy.data.store import open_store
from fastnoisy.errors import FastnoisyError
from fastnoisy.features import out_of_sample as heads
from fastnoisy.features.extract import extract
from fastnoisy.features.network import open_network
from fastnoisy.training import setup
from fastnoisy.training.labels import Labels

BOOTSTRAPS = 1_000
RATES = {"cifar10": {"nrd": 0.4, "alasca": 0.2}}  # of the runs, as benchmarks/cifar10n.py chose them; else the recipe's
STEPS, RATE, DECAY = 300, 3e-3, 1e-2  # of the robust linear classifiers: full batches, AdamW


@dataclass
class Case:
    """A store whose labels are partly wrong, and the truth.

    Attributes:
        recipe, words: of the runs; no recipe, no runs.
        given, true: int64 (N,).
    """

    name: str
    work: Path
    store: Path
    recipe: str
    words: list[str]
    given: np.ndarray
    true: np.ndarray
    num_classes: int


def noisy(name: str, source: Path, recipe: str, words: list[str], work: Path) -> Case:
    """A store with the noise that a recipe would draw, so that whoever opens it takes it for the labels."""
    settings = setup.resolve(f"{recipe}-ce", words, str(source))
    with open_store(source) as store:
        split = store.split("train")
        labels, names = Labels.draw(settings, split), store.class_names
    assert labels.clean is not None
    rows, out = labels.train, work / "store"
    if not out.exists():
        work.mkdir(parents=True, exist_ok=True)
        kept = set(rows.tolist())
        with (work / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("index", "split", "label", "drop"))
            for row, label in enumerate(labels.given.tolist()):
                writer.writerow((row, "train", names[label], "" if row in kept else "true"))
        fastnoisy.correct(source, work / "labels.csv", out=out, labels_as="name")
    runs = ["noise=none", *(word for word in words if not word.startswith(("noise=", "data.subset=")))]
    return Case(name, work, out, recipe, runs, labels.given[rows], labels.clean[rows], len(names))


def mislabelled(folder: Path, work: Path) -> Case:
    """A folder whose truth is known."""
    out = work / "store"
    if not out.exists():
        work.mkdir(parents=True, exist_ok=True)
        fastnoisy.convert(folder / "photos", out, say=print)
    true = {row["path"]: row["true"] for row in table_of(folder / "truth.csv")}
    with open_store(out) as store:
        split, names = store.split("train"), store.class_names
        truth = np.array([names.index(true[path]) for path in split.sources], np.int64)
        return Case(folder.name, work, out, "", [], np.asarray(split.given_labels), truth, len(names))


def audited(case: Case, what: Path, name: str, *words: str) -> np.ndarray:
    """The probabilities of an audit of a store or a run, float (N, C)."""
    out = case.work / f"audit-{name}"
    if not (out / "probabilities.npz").exists():
        command("audit", what, "--out", out, *words)
    with np.load(out / "probabilities.npz") as found:
        rows = found["split"] == "train"
        probabilities, labels = found["pred_probs"][rows], found["labels"][rows]
    assert (labels == case.given).all()
    return np.asarray(probabilities, np.float64)


def trained(case: Case, method: str) -> Path:
    """A run on the case's store."""
    out = case.work / f"run-{method}"
    if not (out / "issues.csv").exists():
        rate = RATES.get(case.recipe, {}).get(method)
        words = [*case.words, *([f"optim.lr={rate}"] if rate else [])]
        train(out, f"{case.recipe}-{method}", *words, data=case.store)
    return out


# -- robust linear classifiers ----------------------------------------------------------------------------------------


def gce(logits: Tensor, given: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Generalised cross-entropy, q = 0.7."""
    return losses.generalized_cross_entropy(logits, given, 0.7, reduction="mean")


def elr(logits: Tensor, given: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Early-learning regularisation, lambda = 3, beta = 0.7."""
    new = functional.softmax(logits.detach(), dim=1)
    state["memory"] = 0.7 * state["memory"] + 0.3 * new if "memory" in state else new
    return functional.cross_entropy(logits, given) + 3 * losses.early_learning_penalty(
        logits, state["memory"], reduction="mean"
    )


def nrd(logits: Tensor, given: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Noise-robust distillation with the recipe's weights; the teacher is an average of the logits, decay .95."""
    new = logits.detach()
    state["teacher"] = 0.95 * state["teacher"] + 0.05 * new if "teacher" in state else new
    return losses.noise_robust_distillation(logits, state["teacher"], given, (0.4, 0.2, 0.4), False, "mean")


HEADS: Mapping[str, Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]] = {"GCE": gce, "ELR": elr, "NRD": nrd}


def robust(features: np.ndarray, case: Case, name: str) -> np.ndarray:
    """Out-of-fold probabilities of a linear classifier trained by a robust loss, float (N, C)."""
    scaled = torch.from_numpy(heads.standardised(features)[0])
    given, parts = torch.from_numpy(case.given), heads.stratified(case.given, heads.FOLDS, 1)
    result = np.zeros((len(given), case.num_classes))
    for part in range(heads.FOLDS):
        fitted, scored = torch.from_numpy(parts != part), torch.from_numpy(parts == part)
        net = torch.nn.Linear(scaled.shape[1], case.num_classes)
        torch.nn.init.zeros_(net.weight)
        torch.nn.init.zeros_(net.bias)
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        state: dict[str, Tensor] = {}
        for _ in range(STEPS):
            optimizer.zero_grad()
            HEADS[name](net(scaled[fitted]), given[fitted], state).backward()
            optimizer.step()
        with torch.no_grad():
            result[scored.numpy()] = functional.softmax(net(scaled[scored]).double(), dim=1).numpy()
    return result


# -- judging ----------------------------------------------------------------------------------------------------------


def f1(wrong: np.ndarray, flagged: np.ndarray) -> float:
    """The harmonic mean of precision and recall; 1 where nothing is wrong and nothing flagged."""
    both = wrong.sum() + flagged.sum()
    return float(2 * (wrong & flagged).sum() / both) if both else 1.0


def auc(wrong: np.ndarray, score: np.ndarray) -> float:
    """How well scores tell wrong labels, which score lower, from right ones."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, -score)) if 0 < wrong.sum() < len(wrong) else 1.0


def difference(
    wrong: np.ndarray, ours: np.ndarray, theirs: np.ndarray, measure: Callable[..., float]
) -> dict[str, Any]:
    """Ours less theirs, with the standard error of paired bootstrap samples."""
    draw = np.random.default_rng(0)
    samples = (draw.integers(0, len(wrong), len(wrong)) for _ in range(BOOTSTRAPS))
    found = [measure(wrong[rows], ours[rows]) - measure(wrong[rows], theirs[rows]) for rows in samples]
    return {"gain": measure(wrong, ours) - measure(wrong, theirs), "error": float(np.std(found))}


def flags(wrong: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Precision, recall, F1 and how many."""
    return {
        "precision": float(wrong[flagged].mean()) if flagged.any() else 1.0,
        "recall": float(flagged[wrong].mean()) if wrong.any() else 1.0,
        "f1": f1(wrong, flagged),
        "count": int(flagged.sum()),
    }


def judged(case: Case, probabilities: np.ndarray) -> dict[str, Any]:
    """Our flags and cleanlab's on the same probabilities."""
    from cleanlab.filter import find_label_issues

    wrong = case.given != case.true
    ours = confident_learning.flag(probabilities, case.given).flagged
    theirs = np.asarray(find_label_issues(case.given, probabilities, n_jobs=1))
    score = confident_learning.self_confidence(probabilities, case.given)
    most = np.argsort(score, kind="stable")[: wrong.sum()]
    return {
        "auc": auc(wrong, score),
        "precision_at_wrong": float(wrong[most].mean()),
        "ours": flags(wrong, ours),
        "cleanlab": flags(wrong, theirs),
        "f1_less_cleanlab": difference(wrong, ours, theirs, f1),
        "score": score,
        "flagged": ours,
    }


def own(case: Case, features: np.ndarray, audit: dict[str, Any]) -> dict[str, Any]:
    """cleanlab's own way, and how the audit compares with it."""
    from cleanlab.classification import CleanLearning
    from sklearn.linear_model import LogisticRegression

    wrong = case.given != case.true
    learner = CleanLearning(LogisticRegression(max_iter=300), seed=1)
    found = learner.find_label_issues(heads.standardised(features)[0], case.given)
    score, flagged = found["label_quality"].to_numpy(), found["is_label_issue"].to_numpy()
    most = np.argsort(score, kind="stable")[: wrong.sum()]
    return {
        "auc": auc(wrong, score),
        "precision_at_wrong": float(wrong[most].mean()),
        "cleanlab": flags(wrong, flagged),
        "f1_less_cleanlab": difference(wrong, audit["flagged"], flagged, f1),
        "auc_less_cleanlab": difference(wrong, audit["score"], score, auc),
    }


def measured(case: Case, methods: list[str], tiny: bool) -> dict[str, Any]:
    """Every source of a case."""
    size = ["--size", "32", "--threads", "1", "--workers", "1"] if tiny else []
    network = open_network(torch.device("cpu"), side=32 if tiny else None)
    with open_store(case.store) as store:
        (features,) = extract([store.split("train")], network, say=print)
    found = {"audit": judged(case, audited(case, case.store, "store", *size))}
    found["cleanlab's own"] = own(case, features, found["audit"])
    for name in HEADS:
        found[f"{name}, one pass"] = judged(case, robust(features, case, name))
    for method in methods if case.recipe else ():
        found[f"run of {method.upper()}"] = judged(case, audited(case, trained(case, method), method))
    return {
        source: {key: value for key, value in numbers.items() if not isinstance(value, np.ndarray)}
        for source, numbers in found.items()
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per case and source."""

    def pair(numbers: Mapping[str, Any] | None) -> str:
        return f"{numbers['precision']:.3f}, {numbers['recall']:.3f}" if numbers else "-"

    rows = []
    for case, sources in results.items():
        for source, numbers in sources.items():
            gain = numbers["f1_less_cleanlab"]
            cells = [f"{numbers['auc']:.4f}", f"{numbers['precision_at_wrong']:.3f}"]
            cells += [pair(numbers.get("ours")), pair(numbers["cleanlab"])]
            rows.append([f"{case}, {source}", *cells, f"{gain['gain']:+.3f} ± {gain['error']:.3f}"])
    header = ["labels, probabilities", "AUC", "P@wrong", "our flags: P, R", "cleanlab's: P, R", "F1 less cleanlab's"]
    return markdown(header, rows)


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--cifar10", type=click.Path(path_type=Path), help="Converted CIFAR-10, CIFAR-10_human.pt in its folder.")
@click.option("--digits", type=click.Path(path_type=Path), help="Converted digits.")
@click.option("--methods", default="nrd,alasca", show_default=True, help="Of the runs.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/label_issues"), show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Of the runs.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path), help="For label_issues.json.")
@click.option("--tiny", is_flag=True, help="A made-up folder, a few seconds.")
def main(
    folders: tuple[Path, ...], cifar10: Path | None, digits: Path | None, methods: str, work: Path, device: str,
    out: Path, tiny: bool,
) -> None:  # fmt: skip
    """See the module."""
    try:
        import cleanlab
    except ImportError:
        raise FastnoisyError("cleanlab is not installed", "pip install cleanlab") from None
    if tiny:
        work = out / "work"
        folders = (tiny_folder(work / "moved-0", "moved"),)
    if not folders and cifar10 is None and digits is None:
        raise FastnoisyError(
            "nothing to judge", "Name folders with photos/ and truth.csv, --cifar10, --digits or --tiny"
        )
    cases = []
    if digits is not None:
        cases.append(noisy("digits, 40 %", digits, "digits", ["noise=symmetric:0.4"], work / "digits"))
    if cifar10 is not None:
        words = [*CIFAR10N, f"noise=human:worse:{cifar10 / 'CIFAR-10_human.pt'}"]
        cases.append(noisy("CIFAR-10N worse", cifar10, "cifar10", words, work / "cifar10n"))
    cases += [mislabelled(folder, work / f"work-{folder.name}") for folder in folders]
    results = {}
    for case in cases:
        case.words.append(f"device={device}")
        results[case.name] = measured(case, methods.split(","), tiny)
        print(f"{case.name}: {json.dumps(results[case.name])}", flush=True)
    shown = table(results)
    note = (
        f"P, R: precision and recall; s.e. of {BOOTSTRAPS:,} paired bootstrap samples; cleanlab {cleanlab.__version__}."
    )
    write(out, "label_issues", {"results": results, "note": note, "table": shown})
    print(shown)


if __name__ == "__main__":
    run(main)
