"""What tools/quickstart and tools/test share: checks of the machine, a virtual environment, and running commands.

Standard library only: this runs before anything is installed, on any Python 3.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED_GIB = 9  # torch with its CUDA libraries takes about 7 GiB installed, and pip unpacks beside it


def fail(message: str, remedy: str) -> None:
    """Leave with one line and exit code 2."""
    print(f"error: {message}. {remedy}", file=sys.stderr)
    raise SystemExit(2)


def check_machine(venv: Path) -> None:
    """Python's version, the venv module, a writable checkout and disk space, before anything is downloaded."""
    if sys.version_info < (3, 11):
        version = ".".join(map(str, sys.version_info[:3]))
        fail(f"this is Python {version}, fastnoisy needs 3.11 or newer", f"Run: python3.11 {sys.argv[0]}")
    try:
        import ensurepip  # noqa: F401
        import venv as _  # noqa: F401
    except ImportError:
        minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        fail(
            f"this Python cannot make virtual environments ({minor}-venv is missing)", f"Run: apt install {minor}-venv"
        )
    if not os.access(ROOT, os.W_OK):
        fail(f"{ROOT} cannot be written to", "Clone the repository to a folder of your own")
    free = shutil.disk_usage(ROOT).free / 2**30
    if not (venv / "bin" / "python").exists() and free < NEEDED_GIB:
        fail(
            f"{free:.1f} GiB are free at {ROOT}, the packages need {NEEDED_GIB}",
            "Free space, or clone to a larger disk",
        )


def make_environment(venv: Path, what: list[str]) -> Path:
    """Make or reuse a virtual environment with `what` (arguments of pip install) in it; returns its Python."""
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"making the virtual environment {venv}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    stamp = venv / ".fastnoisy-installed"
    wanted = repr(what) + (ROOT / "setup.py").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing packages (torch with its CUDA libraries is about 3 GB to download) ...", flush=True)
        start = time.monotonic()
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
        if subprocess.run(install, cwd=ROOT).returncode:
            fail(
                "pip could not install the packages (its message is above)",
                "Check the network or proxy, then run again",
            )
        stamp.write_text(wanted)
        print(f"installed in {time.monotonic() - start:.0f} s", flush=True)
    return python


def clean_environment() -> dict[str, str]:
    """The environment for what runs inside: nothing of the caller's Python set-up leaks in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}
