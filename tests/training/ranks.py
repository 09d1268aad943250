"""A process that is a rank of small runs over gloo: it takes tasks as lines of JSON and answers with one each.

Python ranks.py RANK. The tests start a few once and give them many runs: importing torch takes seconds.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fastnoisy.distributed import ONE, Group
from fastnoisy.training import loop, ranks, setup
from fastnoisy.training.job import Job
from fastnoisy.training.logs import Event
from fastnoisy.training.stop import Interrupted, Stop

FINISH = loop._finish


def train(group: Group, task: dict[str, Any]) -> dict[str, Any]:
    """Start a run, or go on with one; every rank keeps its state at the end beside the folder."""
    out, said, stop = Path(task["out"]), [], Stop()

    def observe(event: Event) -> None:
        said.append(str(event))

    def finish(job: Job, evaluated: dict[int, Any]) -> dict[str, Any]:
        taken = job.state.snapshot()
        torch.save({"method": taken["method"], "optimizer": taken["optimizer"]}, f"{out}.rank{group.rank}.pt")
        return FINISH(job, evaluated)

    loop._finish = finish
    if (at := task.get("stop_at")) and group.rank == task.get("asked", 0):
        asked = stop.signal_number

        class Asked(Stop):
            """Asked after so many looks at it."""

            looks = 0

            @property
            def signal_number(self) -> int:  # type: ignore[override]
                self.looks += 1
                return 15 if self.looks > at else asked

            @signal_number.setter
            def signal_number(self, value: int) -> None:
                pass

        stop = Asked()
    try:
        if task.get("resume"):
            final = loop.resume(out, task.get("words", ()), observe=observe, stop=stop, group=group)
        else:
            settings = setup.resolve(task["recipe"], task["words"], task["store"])
            final = loop.start(settings, out, observe, stop, group)
    except Interrupted as left:
        return {"interrupted": left.signal_number, "path": str(left.path), "said": said}
    return {"final": final, "said": said}


def main(rank: int) -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            if task["size"] == 1 and "backend" not in task:
                answer = train(ONE, task)
            else:
                store = dist.FileStore(task["meeting"], task["size"])
                try:
                    backend = task.get("backend", "gloo")
                    answer = train(ranks.connect(store, rank, task["size"], backend, 60.0, rank, task["size"]), task)
                finally:
                    dist.destroy_process_group()
        except Exception as error:  # told to the test, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
