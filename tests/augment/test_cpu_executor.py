"""The CPU executor: its draws, threads, processes, and what of it is kept on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnoisy import compiler, keyed_random
from fastnoisy.augment import View, executors, parse_view
from fastnoisy.augment.executors import codes, programs
from fastnoisy.augment.executors.cpu import choices, enhance
from fastnoisy.augment.executors.cpu.view import over_threads
from fastnoisy.augment.policies import Mixture, Operations
from fastnoisy.augment.registry import Step
from fastnoisy.augment.steps import get_step

MEAN_STD: dict[str, Any] = {"mean": (0.49, 0.48, 0.44), "std": (0.2, 0.21, 0.22)}
WHOLE = {
    "teacher": "augmix | random_crop(32, padding=4) | hflip | normalize",
    "many": "randaugment(n=4, m=20) | resize(40) | color_jitter(hue=0.5) | normalize | cutout(8) | cutout(4)",
}


def both(program: str, name: str = "student", **options: Any) -> tuple[View, View]:
    parsed = parse_view(program)
    made = [parsed.build(name, **MEAN_STD, **options, executor=executor) for executor in ("reference", "cpu")]
    assert [view.executor for view in made] == ["reference", "cpu"]
    return made[0], made[1]


def test_two_threads_may_use_one_view(reference: Any) -> None:
    _, view = both(WHOLE["many"])
    torch.set_num_threads(2)
    batches = [(reference.random_images(24, 32, 32, seed), torch.arange(24) + 100 * seed) for seed in range(4)]
    wanted = [view(images, None, rows, 3) for images, rows in batches]
    found: dict[int, torch.Tensor] = {}

    def make(number: int) -> None:
        for _ in range(5):
            found[number] = view(batches[number][0], None, batches[number][1], 3)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[number], wanted[number]) for number in range(4))


def test_an_error_in_any_part_is_raised() -> None:
    torch.set_num_threads(2)

    def fails(first: int, last: int) -> None:
        if last == 16:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        over_threads(fails, 16, 2)


def test_a_forked_process_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)

    def parts() -> int:
        done: list[int] = []
        over_threads(lambda first, last: done.extend(range(first, last)), 32, 4)
        return len(set(done))

    assert parts() == 32  # now there are threads, which a fork does not take along
    child = os.fork()
    if child == 0:  # without a word of torch's, whose own threads are not there either
        os._exit(0 if parts() == 32 else 1)
    deadline = time.monotonic() + 60
    done, status = 0, 0
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done
    assert status == 0


# -- draws ------------------------------------------------------------------------------------------------------------


def drawn(step_: Step, keys: torch.Tensor, sizes: torch.Tensor, canvas: tuple[int, int]) -> tuple[Any, np.ndarray]:
    """What the executor draws, as `choices.decided` writes it."""
    encoded = programs.encode([step_])
    count, room = len(keys), max(encoded.operations, 1)
    one = choices.no_operations(room)
    many = choices.Operations(*(np.zeros((count, *part.shape), part.dtype) for part in one))
    places = np.zeros((count, 4), np.int64)
    choices.decided(
        keys.numpy().view(np.uint64), encoded.rows[0], encoded.integers, encoded.floats,
        sizes.numpy().astype(np.int64), np.array(canvas), one, many, places,
    )  # fmt: skip
    return many, places


@pytest.mark.parametrize(
    "text",
    [
        "randaugment(n=3, m=7)", "torchvision_randaugment(n=3, m=11)", "autoaugment", "color_jitter",
        "color_jitter(hue=0, contrast=0)", "augmix", "augmix(severity=7, width=5, depth=4)", "augmix(width=1)",
        "google_augmix", "google_augmix(severity=9, width=4, all_ops=True)", "random_crop(16, padding=3)",
        "random_crop(40)", "hflip(0.3)", "random_resized_crop(16)", "random_resized_crop(9, scale=(0.5, 0.5))",
        "cutout_abs(5)", "cutout(7)", "random_erasing(p=0.9)",
    ],
)  # fmt: skip
def test_draws_are_the_reference_s_integer_by_integer(text: str, reference: Any) -> None:
    program = parse_view(f"normalize | {text}" if text.startswith(("cutout(", "random_er")) else f"{text} | normalize")
    call = next(call for call in program.steps if call.name != "normalize")
    made = call.kind.build(**call.keywords)
    keys = torch.from_numpy(np.random.default_rng(3).integers(-(1 << 63), (1 << 63) - 1, 4000))
    canvas = (33, 61)
    sizes = reference.random_sizes(len(keys), *canvas)
    wanted = made.draw(keys, sizes, canvas)
    found, places = drawn(made, keys, sizes, canvas)
    if isinstance(wanted, (Operations, Mixture)):
        flat = [wanted.chosen.flatten(1), wanted.values.flatten(1)]
        names = [codes.OPERATIONS.index(name) for name in made.names]
        numbers = torch.tensor([*names, -1])[flat[0]]  # -1, none, is the last
        assert torch.equal(torch.from_numpy(found.chosen), numbers)
        assert torch.equal(torch.from_numpy(found.values), flat[1])
        if wanted.rotation is not None:
            rotation = torch.from_numpy(np.stack([found.cosine, found.sine], 2))
            assert torch.equal(rotation, wanted.rotation.flatten(1, -2))
        if isinstance(wanted, Mixture):
            assert torch.equal(torch.from_numpy(found.weights)[:, : wanted.weights.shape[1]], wanted.weights)
        elif wanted.centers is not None:
            assert torch.equal(torch.from_numpy(np.stack([found.center_y, found.center_x], 2)), wanted.centers)
    else:
        columns = torch.stack([part.long() for part in wanted], 1).flatten(1)
        assert torch.equal(torch.from_numpy(places[:, : columns.shape[1]]), columns)
        assert columns.float().std() > 0


def test_hashes_and_comparisons_are_keyed_random_s() -> None:
    """A comparison of a hash is what numba's int64 gets wrong: see findings of `keyed_random`."""
    keys = np.random.default_rng(0).integers(-(1 << 63), (1 << 63) - 1, 4000)
    threshold = 1 << 30
    step_ = get_step("hflip").build(p=0.5)
    _, places = drawn(step_, torch.from_numpy(keys), torch.ones((len(keys), 2), dtype=torch.int32), (1, 1))
    plain = [keyed_random.below(keyed_random.fold(int(key), 0), 1 << 31) < threshold for key in keys]
    assert places[:, 0].tolist() == plain


def test_a_product_replaces_the_division_by_26() -> None:
    sums = np.arange(2 * 13 * 255 + 14)
    assert ((sums * int(enhance._TWENTY_SIXTH)) >> 20 == sums // 26).all()
    assert int(sums.max()) * int(enhance._TWENTY_SIXTH) < 1 << 31


# -- kept on disk -----------------------------------------------------------------------------------------------------


def test_what_is_compiled_lies_under_a_digest_of_all_its_sources(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("1")
    second.write_text("2")
    before = compiler.kept_in(first, second)
    second.write_text("3")
    assert compiler.kept_in(first, second) != before, "a callee in another file has changed"
    assert before is not None
    assert before.name.startswith("numba-")


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(tmp_path: Path) -> None:
    """A file in the place of the folder, a folder that is nobody's, and a disk that is full when it writes."""
    (tmp_path / "some.py").write_text(
        "import os, sys\nfrom pathlib import Path\nimport fastnoisy.compiler as c\nhere = Path(__file__)\n"
        "def ask():\n    return 7\n"
        "made = c.kept(here)(ask)\n"
        "from numba.core import caching\n"
        "def full(*arguments):\n    raise OSError(28, 'No space left on device')\n"
        "if 'full' in sys.argv:\n    caching.IndexDataCacheFile.save = full\n"
        "print(made(), c.kept_in(here) is not None)\n"
    )
    (tmp_path / "taken").write_text("")

    def told(*words: str, **environment: str) -> str:
        kept = {key: value for key, value in os.environ.items() if key not in ("HOME", "NUMBA_CACHE_DIR")}
        done = subprocess.run(
            [sys.executable, "some.py", *words], cwd=tmp_path, env={**kept, **environment}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert told(NUMBA_CACHE_DIR=str(tmp_path / "taken")) == "7 True"
    assert told(XDG_CACHE_HOME="/proc") == "7 True"
    assert told("full", NUMBA_CACHE_DIR=str(tmp_path / "there")) == "7 True"
    assert not list(tmp_path.rglob("__pycache__/*.nb?"))


def test_old_code_is_removed_when_new_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "some.py").write_text("1")
    for name in ("numba-old", "numba-new", "others"):
        (tmp_path / name).mkdir()
    for name in ("numba-old", "others"):
        os.utime(tmp_path / name, (0, 0))
    compiler.kept(tmp_path / "some.py")(lambda: 1)
    assert not (tmp_path / "numba-old").exists()
    assert (tmp_path / "numba-new").exists()
    assert (tmp_path / "others").exists()


def test_a_short_command_takes_it_where_it_is_compiled(
    reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = both("normalize")[1]
    view(reference.random_images(1, 4, 4), None, torch.arange(1), 0)  # compiles, and keeps
    assert executors.at_hand(torch.device("cpu")) == "cpu"
    assert executors.at_hand(torch.device("cuda")) == "cuda"
    said: list[str] = []
    assert executors.prepare([view], said.append) == []
    assert said == []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert executors.at_hand(torch.device("cpu")) == "reference"
    executors.prepare([view], said.append)
    assert said == ["compiling the views for this processor, once: about half a minute"]


def test_a_changed_callee_in_another_file_is_seen(tmp_path: Path) -> None:
    """numba alone would take the old code: what is kept is told from the file of the caller."""
    (tmp_path / "callee.py").write_text("import numba\n\n@numba.njit\ndef value():\n    return 1\n")
    (tmp_path / "caller.py").write_text(
        "from pathlib import Path\nfrom fastnoisy.compiler import kept\nimport callee\n"
        "here = Path(__file__).parent\n\n@kept(here / 'caller.py', here / 'callee.py')\ndef ask():\n"
        "    return callee.value()\n\nprint(ask())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}

    def asked() -> str:
        done = subprocess.run(
            [sys.executable, "caller.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert asked() == "1" == asked()
    (tmp_path / "callee.py").write_text("import numba\n\n@numba.njit\ndef value():\n    return 2\n")
    assert asked() == "2"
