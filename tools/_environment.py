"""What tools/quickstart and tools/test share: checks of the machine, a virtual environment, and running commands.

Standard library only: this runs before anything is installed, on any Python 3.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED_GIB = 9  # torch with its CUDA libraries takes about 7 GiB installed
TEMPORARY_GIB = 4  # where pip keeps its downloads meanwhile


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
    if (venv / ".fastnoisy-installed").exists():
        return
    temporary = Path(tempfile.gettempdir())
    for folder, needed, remedy in (
        (ROOT, NEEDED_GIB, "Free space, or clone to a larger disk"),
        (temporary, TEMPORARY_GIB, f"Free space, or run: TMPDIR=/a/larger/disk {sys.argv[0]}"),
    ):
        free = shutil.disk_usage(folder).free / 2**30
        if free < needed:
            fail(f"{free:.1f} GiB are free at {folder}, installing needs {needed}", remedy)


def newest_python() -> str:
    """The newest Python that is found, on the PATH or among pyenv's, and can make environments; this one otherwise."""
    names = [f"python3.{minor}" for minor in range(sys.version_info[1] + 1, 40)]
    found = [shutil.which(name) for name in names] + [
        str(path) for path in (Path.home() / ".pyenv/versions").glob("3.*/bin/python3")
    ]
    best, version = sys.executable, sys.version_info[:2]
    for python in filter(None, found):
        ask = [python, "-c", "import ensurepip, sys, venv; print(*sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True, env=clean_environment())
        theirs = tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
        if theirs > version and has_wheels(python):
            best, version = str(python), theirs
    return best


def make_environment(venv: Path, what: list[str], interpreter: str = sys.executable) -> Path:
    """Make or reuse a virtual environment of an interpreter with `what` (arguments of pip install) in it; returns its
    Python.
    """
    python = venv / "bin" / "python"
    works = [str(python), "-m", "pip", "--version"]
    if not python.exists() or subprocess.run(works, capture_output=True).returncode:  # missing, or cut off half-made
        print(f"making the virtual environment {venv}", flush=True)
        subprocess.run([interpreter, "-m", "venv", "--clear", str(venv)], check=True)
    stamp = venv / ".fastnoisy-installed"
    wanted = repr(what) + (ROOT / "setup.py").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        check_wheels(python)
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


def look_for_wheels(python: str) -> "subprocess.CompletedProcess[str]":
    """Ask the registry for wheels of the compiled packages for this Python and platform."""
    look = [python, "-m", "pip", "install", "--dry-run", "--no-deps", "--only-binary", ":all:", "--quiet"]
    look += ["--disable-pip-version-check", "--ignore-installed", "torch", "numba"]
    return subprocess.run(look, capture_output=True, text=True)


def has_wheels(python: str) -> bool:
    """Whether there are wheels for it; False without pip, too."""
    return look_for_wheels(python).returncode == 0


def check_wheels(python: Path) -> None:
    """Whether there are wheels for it, before the large download."""
    done = look_for_wheels(str(python))
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        fail(
            f"no wheels of torch and numba for Python {version} on {sys.platform} were found ({said})",
            "Check the network or proxy; on Linux Python 3.11 to 3.13 have them",
        )


def add_ffcv(python: str, pins: list[str]) -> str:
    """Compile and install the extra ffcv into an environment, with the system packages it needs where they may be
    installed.

    Args:
        python: of the environment.
        pins: requirements that must stay as they are.

    Returns:
        Why it is not there, or an empty text.
    """
    look = [python, "-c", "import ffcv.loader, ffcv.writer"]
    if subprocess.run(look, capture_output=True, env=clean_environment()).returncode == 0:
        return ""
    missing = " ".join(filter(None, (ffcv_missing(), compiler_missing())))
    if missing and not apt_install(missing):
        return f"its system packages are missing; run: apt install {missing}"
    print("compiling ffcv ...", flush=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run([python, "-m", "pip", "install", *quiet, *pins, "-e", ".[ffcv]"], cwd=ROOT)
    if done.returncode:
        return "pip could not build it (its message is above)"
    done = subprocess.run(look, capture_output=True, text=True, env=clean_environment())
    return "it does not load: " + (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def ffcv_missing() -> str:
    """The apt packages that building ffcv lacks, or an empty text."""
    if shutil.which("pkg-config") is None:
        return "pkg-config libopencv-dev libturbojpeg0-dev"
    needs = (("libopencv-dev", "opencv4"), ("libturbojpeg0-dev", "libturbojpeg"))
    return " ".join(apt for apt, name in needs if subprocess.run(["pkg-config", "--exists", name]).returncode)


def compiler_missing() -> str:
    """What torch.compile lacks on the CPU: the apt packages, or an empty text."""
    sys.path.insert(0, str(ROOT))
    from fastnoisy.compiler import missing_packages  # needs the standard library alone

    return missing_packages()


def add_chromium() -> str:
    """Install the browser that tests of pages drive, where that may be done; why it is not there, or an empty text."""
    if any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))):
        return ""
    return "" if apt_install("chromium") else "apt install chromium"


def apt_install(packages: str) -> bool:
    """Install system packages where that is allowed without asking; says whether they are there now."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing system packages: {packages} ...", flush=True)
    options = ["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run(["apt-get", *options, "update"], env=quiet, stdout=subprocess.DEVNULL)
    install = ["apt-get", *options, "install", "-y", "--no-install-recommends", *packages.split()]
    return subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL).returncode == 0


def clean_environment() -> dict[str, str]:
    """The environment for what runs inside: nothing of the caller's Python set-up leaks in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    compiled = os.environ.get("NUMBA_CACHE_DIR", str(ROOT / ".venv" / "numba"))  # not in the user's folder
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": compiled}
