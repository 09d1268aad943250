"""Writing so that nothing is ever half-written: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with the same ending, to write a file or a folder under.

    It becomes `path` when the block ends well (a file of that name is replaced, a folder only where it is empty) and is
    removed when it does not.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (partial, str(partial)):
            error.filename, error.filename2 = str(path), None
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        raise
