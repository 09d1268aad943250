"""Two hosts, made of network namespaces with a cable between them, of which one is cut off and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fastnoisy.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.slow
HOSTS = ("fastnoisy-a", "fastnoisy-b")
CABLE = ("fnv-a", "fnv-b")
ADDRESSES = ("10.77.31.1", "10.77.31.2")
WORDS = [
    "digits-alasca", "model.width=4", "batch_size=24", "epochs=5", "checkpoint.every=1", "threads=1", "dtype=float64",
    "eval_every=5", "distributed.sync_batchnorm=true", "optim.lr=0.0002", "distributed.timeout=15",
]  # fmt: skip


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def network() -> Iterator[None]:
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        try:
            for name in HOSTS:
                ip("netns", "add", name)
            ip("link", "add", CABLE[0], "type", "veth", "peer", "name", CABLE[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        for name, end, address in zip(HOSTS, CABLE, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", end, "up")
        yield
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def host(number: int, digits: Path, out: Path, restarts: int) -> subprocess.Popen[str]:
    """torchrun on one of the hosts."""
    # the two have one name on this machine: each is told whether it is the one of the endpoint
    command = [
        "ip", "netns", "exec", HOSTS[number], sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
        "--nproc-per-node", "1", "--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-id", "two",
        "--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-conf", f"is_host={1 - number},read_timeout=60",
        "--local-addr", ADDRESSES[number], "--monitor-interval", "0.2",
        "-m", "fastnoisy", "train", *WORDS, "--data", str(digits), "--out", str(out),
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": CABLE[number], "PYTHONPATH": str(ROOT),
        "RES_OPTIONS": "timeout:1 attempts:1",
    }  # fmt: skip
    with out.with_name(f"host-{number}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment, start_new_session=True)


def wait_for_epoch(out: Path, count: int, hosts: list[subprocess.Popen[str]]) -> None:
    metrics = out / "metrics.jsonl"
    for _ in range(3000):
        if metrics.exists() and len(metrics.read_text().splitlines()) >= count:
            return
        assert all(process.poll() is None for process in hosts), logs(out)
        time.sleep(0.1)
    raise AssertionError(f"the run did not get anywhere: {logs(out)}")


def logs(out: Path) -> str:
    return "\n".join(out.with_name(f"host-{number}.log").read_text() for number in range(2))


def end(hosts: list[subprocess.Popen[str]]) -> None:
    for process in hosts:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_host_that_is_cut_off_and_comes_back(network: None, digits: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    subprocess.run(
        [sys.executable, "-m", "fastnoisy", "train", *WORDS, "--data", str(digits), "--out", str(whole), "--quiet",
         "--processes", "2"],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    hosts = [host(number, digits, out, restarts=3) for number in range(2)]
    try:
        wait_for_epoch(out, 2, hosts)
        ip("-n", HOSTS[1], "link", "set", CABLE[1], "down")
        time.sleep(20)
        ip("-n", HOSTS[1], "link", "set", CABLE[1], "up")
        for process in hosts:
            assert process.wait(timeout=300) == 0, logs(out)
    finally:
        end(hosts)
    assert "resuming " in logs(out)
    expected, found = (checkpoint.load_newest(run / "checkpoints").state["method"] for run in (whole, out))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_a_host_that_stays_away_is_an_error(network: None, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    hosts = [host(number, digits, out, restarts=0) for number in range(2)]
    try:
        wait_for_epoch(out, 1, hosts)
        ip("-n", HOSTS[1], "link", "set", CABLE[1], "down")
        began = time.monotonic()
        assert hosts[0].wait(timeout=120) != 0
        assert time.monotonic() - began < 60
        other = out.with_name("host-1.log")
        while "error: rank 1 of 2 on " not in other.read_text():  # torchrun itself may wait for the other host longer
            assert time.monotonic() - began < 120, logs(out)
            time.sleep(0.5)
    finally:
        end(hosts)
    assert out.with_name("host-0.log").read_text().count("error: rank 0 of 2 on ") == 1
    assert checkpoint.load_newest(out / "checkpoints").position.epoch >= 1
