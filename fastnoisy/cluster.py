"""Work on a Ray cluster: connecting to one, and running tasks that are tried again where a machine was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastnoisy import extras
from fastnoisy.errors import FastnoisyError

RETRIES = 3  # of a task whose process or machine was lost; each goes on from what it has written
_LOOK = 0.2  # seconds


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected for the length of a block.

    Args:
        address: of a cluster (`auto`: the one that this machine belongs to), or `local`: one that is started on this
            machine and ends with the block.

    Raises:
        FastnoisyError: Ray is not installed, or no cluster answers.
    """
    ray = extras.load("cluster")
    own = address == "local"
    try:
        ray.init(
            address=address, include_dashboard=False if own else None, log_to_driver=False, logging_level="ERROR",
            configure_logging=False,
        )  # fmt: skip
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        line = str(error).strip().partition("\n")[0]
        raise FastnoisyError(
            f"no Ray cluster at {address!r}: {line}", "Name the address that 'ray start --head' printed, or local"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def run(
    ray: Any,
    work: Callable[..., Any],
    arguments: Mapping[str, tuple[Any, ...]],
    need: Mapping[str, float],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, Any]]:
    """Run a function as a task for each entry, and give each result as it comes, with the entry's name.

    A task that raised, or was lost more than `RETRIES` times, gives its error instead: a FastnoisyError.

    Args:
        need: `num_cpus` and `num_gpus` of a task.
        stopped: asked now and then; where it is true no more results are waited for.
    """
    task = ray.remote(max_retries=RETRIES, **need)(work)
    waiting = {task.remote(*given): name for name, given in arguments.items()}
    while waiting and not stopped():
        ended, _ = ray.wait(list(waiting), timeout=_LOOK)
        for reference in ended:
            name = waiting.pop(reference)
            try:
                yield name, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                yield name, cause if isinstance(cause, FastnoisyError) else FastnoisyError(_last_line(error))
            except ray.exceptions.RayError as error:
                yield name, FastnoisyError(f"its task was lost: {str(error).strip().partition(chr(10))[0]}")


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2]
