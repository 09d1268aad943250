"""What is known of the disk: that it holds a file by now, and what it holds where that has failed."""

from __future__ import annotations

import os
import threading


class Sync:
    """Has the disk hold some files, in a thread: that may take seconds, in which the workers should not wait.

    Attributes:
        row: up to which the files held rows when it began.
        thread: in which it happens.
    """

    def __init__(self, row: int, descriptors: list[int]) -> None:
        self.row = row
        self._error: OSError | None = None
        self.thread = threading.Thread(target=self._run, args=(descriptors,), daemon=True)
        self.thread.start()

    def done(self) -> bool:
        """Whether it has happened.

        Raises:
            OSError: the disk fails.
        """
        if self.thread.is_alive():
            return False
        self.wait()
        return True

    def wait(self) -> None:
        """Wait until it has happened.

        Raises:
            OSError: the disk fails.
        """
        self.thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, descriptors: list[int]) -> None:
        try:
            for descriptor in descriptors:
                os.fsync(descriptor)
        except OSError as error:
            self._error = error


def forget_cached(descriptor: int) -> None:
    """Let what is read of a file from now on come from the disk.

    Pages that could not be written count as clean: tried on Linux 6.18 with ext4 on a full loop device, they still read
    as written after fsync had failed, and as what the disk holds only after this call. Pages not written yet are kept.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
