"""Label noise: pure functions of labels (and images), rate and seed, drawn once before training and saved with the run.

Every function returns new int64 labels (N,) and leaves its input alone. Rates are shares in [0, 1]. A run names its
noise by the text of a `NoiseSpec`, such as `symmetric:0.4`.

| file | what it holds |
|---|---|
| `class_conditional.py` | `symmetric`, `asymmetric`, `pair_flip`: the labels alone decide |
| `instance.py`          | `instance_dependent`: the image decides which labels are confused |
| `cifarn.py`            | `human`: CIFAR-N, labels that people gave |
| `files.py`             | `from_file`: labels of one's own |
| `legacy.py`            | draws that are the same under every numpy |
| `labels.py`            | range checks, transition counts |
| `cifar.py`             | the classes of CIFAR-10 and CIFAR-100 and which are mistaken for which |
| `spec.py`              | `NoiseSpec` |
"""

from fastnoisy.noise.cifar import dataset_of
from fastnoisy.noise.cifarn import human
from fastnoisy.noise.class_conditional import ASYMMETRIC_RULES, asymmetric, pair_flip, symmetric
from fastnoisy.noise.files import FileReading, from_file
from fastnoisy.noise.instance import INSTANCE_VARIANTS, instance_dependent
from fastnoisy.noise.labels import check_range, transition_counts
from fastnoisy.noise.spec import NoiseSpec

__all__ = [
    "ASYMMETRIC_RULES",
    "INSTANCE_VARIANTS",
    "FileReading",
    "NoiseSpec",
    "asymmetric",
    "check_range",
    "dataset_of",
    "from_file",
    "human",
    "instance_dependent",
    "pair_flip",
    "symmetric",
    "transition_counts",
]
