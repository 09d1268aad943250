"""What torch.compile needs on a CPU. Standard library only: tools ask before anything is installed."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


def missing_packages() -> str:
    """The apt packages that torch.compile lacks on the CPU, separated by blanks; empty where it can build C++."""
    packages = []
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        packages.append("g++")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        packages.append("python3-dev")
    return " ".join(packages)
