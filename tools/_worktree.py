"""The files of another commit beside the working tree, to hold the two against each other."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click


def commit_of(repository: Path, name: str) -> str:
    """The full name of a commit. Raises click.UsageError where there is none such."""
    command = ["git", "-C", str(repository), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise click.UsageError(f"{name!r} is no commit of {repository}; name one, for example main or HEAD~1")
    return done.stdout.strip()


@contextlib.contextmanager
def worktree(repository: Path, commit: str, path: Path) -> Iterator[Path]:
    """A worktree of a commit in a new folder, for as long as the context lasts. Raises click.ClickException without
    one.
    """
    git = ["git", "-C", str(repository), "worktree"]
    try:
        if subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit]).returncode:
            raise click.ClickException(f"git made no worktree of {commit} in {path}")
        yield path
    finally:
        subprocess.run([*git, "remove", "--force", str(path)], check=False, capture_output=True)
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run([*git, "prune"], check=False, capture_output=True)
