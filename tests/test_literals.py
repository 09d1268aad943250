"""Calls of literals: what is read, and that nothing else is."""

from __future__ import annotations

import pytest

from fastnoisy.errors import FastnoisyError
from fastnoisy.literals import MAX_DEPTH, Call, Word, parse, parse_chain


def test_values_are_literals_words_lists_and_calls() -> None:
    text = "alasca(nce-rce, 2, -1.5e-3, 'a b', [1, 2,], (3, 4), (5), (6,), x=true, y=None, base=gce(q=0.5), lca=off)"
    call = parse(text)
    assert (call.name, call.source) == ("alasca", text)
    assert call.args == ("nce-rce", 2, -0.0015, "a b", [1, 2], (3, 4), 5, (6,))
    found = dict(call.keywords)
    assert list(found) == ["x", "y", "base", "lca"]
    assert (found["x"], found["y"], found["lca"]) == (True, None, "off")
    assert found["base"] == Call("gce", (), (("q", 0.5),), "gce(q=0.5)")
    assert isinstance(call.args[0], Word)
    assert not isinstance(call.args[3], Word)
    assert isinstance(call.args[1], int)


def test_a_bare_name_is_a_call_without_arguments() -> None:
    assert parse(" resnet50.tv_in1k ") == Call("resnet50.tv_in1k", source="resnet50.tv_in1k")
    assert parse("ce()") == Call("ce", source="ce()")


def test_a_chain_keeps_order_and_sources() -> None:
    found = parse_chain("random_crop(32, padding=4)\n | hflip|normalize")
    assert [call.source for call in found] == ["random_crop(32, padding=4)", "hflip", "normalize"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "a name is missing"),
        ("3", "a name is expected"),
        ("a(", "ends too early"),
        ("a(x=", "ends too early"),
        ("a(1", "ends too early"),
        ("a) b", "too much"),
        ("a | b", "'|' is too much"),
        ("a(1 2)", "a comma or )"),
        ("a(x=1, x=2)", "x is given twice"),
        ("a(x=1, 2)", "after an argument that is named"),
        ("a(**x)", "'**x)' cannot stand there"),
        ("a(__import__('os').system('x'))", "cannot stand there"),
        ("a(1 + 2)", "cannot stand there"),
        ("a(lambda: 3)", "cannot stand there"),
        ("a(007)", "'007' is not a number"),
        (f"a({'9' * 5000})", "is not a number"),
        ("a('no end)", "cannot stand there"),
    ],
)
def test_anything_else_is_refused_and_the_place_is_named(text: str, part: str) -> None:
    with pytest.raises(FastnoisyError) as caught:
        parse(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("(", ")"), ("b(", ")"), ("b(x=", ")")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 3000, 200_000])
def test_deep_nesting_is_an_error_and_no_crash(opening: str, closing: str, depth: int) -> None:
    with pytest.raises(FastnoisyError, match="nested deeper than"):
        parse(f"a({opening * depth}1{closing * depth})")
    inner = MAX_DEPTH - 2
    assert parse(f"a({opening * inner}1{closing * inner})").name == "a"
