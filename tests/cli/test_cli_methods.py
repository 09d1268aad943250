"""`fastnoisy methods`: every method has a line, and a page with formula, source and options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest

from fastnoisy import methods

Call = Callable[..., tuple[int, str, str]]


def test_every_method_has_a_line_with_its_needs(call: Call) -> None:
    code, out, _ = call("methods")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    for name in methods.names():
        cls = methods.find(name)
        wraps = methods.wrapped({"name": name}) is not None
        assert lines[name].split()[1] == ("base's" if wraps else str(cls.networks_needed))
        assert cls.remembers in lines[name]
        assert ("  needed  " in lines[name]) == cls.needs_noise_rate
        assert (cls.__doc__ or "").splitlines()[0] in lines[name]


@pytest.mark.parametrize("name", methods.names())
def test_a_method_is_shown_in_full(call: Call, name: str) -> None:
    code, out, _ = call("methods", "show", name)
    assert code == 0
    cls = methods.find(name)
    for line in (cls.__doc__ or "").splitlines():
        assert line.strip() in out
    for key, info in cls.Options.model_fields.items():
        assert f"method.{key} = " in out
        assert str(info.description) in out
    assert all(reason in out for reason in cls.unsupported.values())
    assert f"cifar10-{name}" in out


@pytest.mark.parametrize("name", methods.names())
def test_a_method_names_its_formula_and_source(name: str) -> None:
    text = methods.find(name).__doc__ or ""
    assert "=" in text or "->" in text or "<-" in text, "no formula"
    source = inspect.getmodule(methods.find(name)).__doc__ or ""
    assert re.search(r"\b(19|20)\d\d\b", text + source) or name == "ce", "no source"


def test_mistakes(call: Call) -> None:
    code, _, err = call("methods", "show", "dividemx")
    assert code == 2
    assert "did you mean dividemix" in err
    code, _, err = call("methods", "elr")
    assert code == 2
    assert "known: show. To print a method: fastnoisy methods show elr" in err
