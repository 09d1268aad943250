"""Whose fault it is that an image cannot be read: its own, so that it is left out, or the machine's, so that nothing
is.
"""

from __future__ import annotations

import errno

from fastnoisy.errors import FastnoisyError

# What is wrong with one path. It may be mended meanwhile, so the image is left out only until it is looked at again.
# Any other number (EIO, ESTALE, ENOMEM, EMFILE, ETIMEDOUT) says nothing about the image.
_OF_THE_PATH = frozenset(
    (
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.ELOOP, errno.ENAMETOOLONG,
        errno.EACCES, errno.EPERM,
    )
)  # fmt: skip


def may_be_mended(error: OSError | FastnoisyError, path: str, listed: bool) -> bool:
    """Whether an image that could not be read is one that could be, another time.

    Args:
        error: what reading it raised.
        path: of the image, for the error.
        listed: whether its file was there when the conversion began, and was not merely named in a list.

    Returns:
        True for what is wrong with its path alone, False for a refusal of its content.

    Raises:
        FastnoisyError: the machine, its disk or its network fails, or the file has gone meanwhile.
    """
    cause = error if isinstance(error, OSError) else error.__context__  # a source may have put it into its own words
    if not isinstance(cause, OSError) or cause.errno is None:
        return False
    told = f"cannot read {path}: {cause.strerror or cause}"
    if cause.errno not in _OF_THE_PATH:
        raise FastnoisyError(
            told,
            "mend that and give the same command again: it goes on where it stopped; where the file itself is lost, put"
            " an empty one in its place, and it is left out",
        )
    if listed and cause.errno in (errno.ENOENT, errno.ENOTDIR):
        raise FastnoisyError(
            f"{told}, though it was there when this began",
            "bring it back and give the same command again, which goes on where it stopped, or add --restart",
        )
    return True
