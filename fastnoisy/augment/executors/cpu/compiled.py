"""How this folder's functions are compiled: without the GIL, kept on disk under a digest of all they are made of."""

from __future__ import annotations

from fastnoisy.augment.executors.cpu.sources import SOURCES
from fastnoisy.compiler import inner, kept

compiled = inner(nogil=True)
entry = kept(*SOURCES, nogil=True)
