"""fastnoisy trains image classifiers on wrongly labelled data at the speed of the hardware.

Importing the package does no work and does not import torch. Floors (a file imports only from its own floor's
package or from lower ones, `tests/test_floors.py` keeps it): 0 `errors config keyed_random noise losses batch
sample_memory`; 1 `recipes data augment models`; 2 `pipelines methods`; 3 `training`; 5 `cli`.
"""

from pathlib import Path

__version__ = "0.1.0"

# `fastnoisy/pipelines` is a link to the folder at the top. A checkout that lost its links (a zip, or git on a file
# system without them) holds a small text file in its place; then the folder is found beside the package.
_HERE = Path(__file__).resolve().parent
if not (_HERE / "pipelines").is_dir() and (_HERE.parent / "pipelines" / "__init__.py").is_file():
    __path__.append(str(_HERE.parent))
