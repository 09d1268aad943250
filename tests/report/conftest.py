"""A real Chromium without a window, driven by its DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE = 60.0  # seconds
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # where the browser reads commands
os.dup2(int(sys.argv[2]), 4)  # and writes what it has to say
os.execv(sys.argv[3], sys.argv[3:])
"""


def _far_pipe() -> tuple[int, int]:
    """A pipe whose ends are neither 3 nor 4."""
    ends = os.pipe()
    far = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(ends[1], fcntl.F_DUPFD_CLOEXEC, 10)
    for end in ends:
        os.close(end)
    return far


class Chromium:
    """A browser with one page, which `fresh` replaces by one that knows nothing of it.

    Attributes:
        requests: the URL of everything that the page asked for, itself first.
        problems: what it wrote to its console, and errors that nothing caught.
        downloads: where it saves files.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.downloads = folder
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._number, self._session, self._context, self._read = 0, "", "", b""
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
            f"--user-data-dir={folder / 'profile'}",
        ]  # fmt: skip
        theirs_in, self._out = _far_pipe()
        self._in, theirs_out = _far_pipe()
        command = [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), program, *options, "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def fresh(self, downloads: Path) -> None:
        """A new page, with a storage and a folder for downloads of its own."""
        self._session, self.downloads = "", downloads
        if self._context:
            self.call("Target.disposeBrowserContext", browserContextId=self._context)
        self._context = self.call("Target.createBrowserContext")["browserContextId"]
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), browserContextId=self._context
        )
        page = self.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.problems.clear()

    def close(self) -> None:
        try:
            self._session = ""
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired, TimeoutError):
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> Any:
        """Ask for something; what comes meanwhile is noted."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while (reply := self._receive()).get("id") != number:
            pass
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._read:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("chromium does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise OSError("chromium has ended")
            self._read += data
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(json.dumps(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self._events.append({"dialog": params})
        if method == "Page.loadEventFired":
            self._events.append({"loaded": True})

    def open(self, path: Path, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """Load a file, as far as its last byte."""
        self.look(width, height, dark)
        self.requests.clear()
        self._events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while {"loaded": True} not in self._events:
            self._receive()

    def look(self, width: int, height: int, dark: bool = False, mobile: bool = False) -> None:
        """Size of the window, and colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements in sight that a selector finds."""
        find = f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility())"
        return list(self.run(f"{find}.map(e => e.textContent)"))

    def click(self, selector: str) -> None:
        """Click into the middle of an element with the mouse."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'nearest'}})")
        x, y = self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def press(self, *keys: str) -> None:
        """Press keys, one after another, by their names: "r", "Enter", "ArrowDown"."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
            fields = {"key": key, "windowsVirtualKeyCode": code.get(key, ord(key.upper()[0]))}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
            self.call("Input.dispatchKeyEvent", type="keyUp", **fields)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def downloaded(self, name: str) -> bytes:
        """A file that was saved, once it is whole."""
        path, end = self.downloads / name, time.monotonic() + 20
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < end, f"{name} was not saved"
            time.sleep(0.05)
        return path.read_bytes()

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no chromium: apt install chromium")
    folder = Path(tempfile.mkdtemp(prefix="fastnoisy-chromium-"))
    started = Chromium(program, folder)
    try:
        yield started
    finally:
        started.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def browser(chromium: Chromium, tmp_path: Path) -> Chromium:
    """The browser, with a page that knows nothing of earlier ones."""
    chromium.fresh(tmp_path / "downloads")
    return chromium
