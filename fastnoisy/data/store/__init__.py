"""The converted data set on disk.

`OUT/` holds per split `SPLIT.beton` (images, labels, indices: see beton.py) and the folder `SPLIT.meta/` (see meta.py).
"""

from fastnoisy.data.store.folder import Store, open_store
from fastnoisy.data.store.split import Split

__all__ = ["Split", "Store", "open_store"]
