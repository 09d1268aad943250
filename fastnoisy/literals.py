"""Calls of literals, such as `alasca(base=gce(q=0.5), lam=2)`: what names a method, a network, a pipeline, a view's
step.

The text is read by a parser of its own and never evaluated. A value is a number, a text in quotes, `true` or `false`,
`None`, a bare word (`nce-rce`, which stands for itself), a list or tuple of values, or another call. Nothing nests
deeper than
`MAX_DEPTH`: Python's own parser ends in a RecursionError or a MemoryError there.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from fastnoisy.errors import FastnoisyError

MAX_DEPTH = 20
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?(?![\w.]))
    | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<word>[A-Za-z_][\w.]*(?:-[\w.]+)*)
    | (?P<sign>[()\[\],=|])
    )""",
    re.VERBOSE,
)
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "None": None}


class Word(str):
    """A bare word; it equals its text."""

    __slots__ = ()


@dataclass(frozen=True)
class Call:
    """A name with its arguments; a bare name has none.

    Attributes:
        name: of what is called.
        args: positional arguments, in order.
        keywords: (name, value) pairs, in order; no name stands twice.
        source: the text of the call.
    """

    name: str
    args: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    source: str = ""


def parse(text: str) -> Call:
    """One name or call.

    Raises:
        FastnoisyError: it is neither; says where it ceases to be.
    """
    (call,) = _Parser(text).calls(separator="")
    return call


def parse_chain(text: str) -> list[Call]:
    """Names and calls joined by `|`, in order.

    Raises:
        FastnoisyError: it is no such chain.
    """
    return _Parser(text).calls(separator="|")


def shorten(text: str) -> str:
    """A text for a message."""
    return text if len(text) <= 200 else f"{text[:200]}..."


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int, int]] = []  # kind, text, start, end
        place, end = 0, len(text.rstrip())
        while place < end:
            found = _TOKEN.match(text, place)
            if found is None:
                raise self._problem(f"{text[place : place + 20].strip()!r} cannot stand there")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind], found.start(kind), found.end()))
            place = found.end()
        self.place = 0

    def calls(self, separator: str) -> list[Call]:
        """The whole text."""
        found = [self._call(0)]
        while separator and self._accept(separator):
            found.append(self._call(0))
        if self.place < len(self.tokens):
            raise self._problem(f"{self._peek()[1]!r} is too much")
        return found

    def _call(self, depth: int) -> Call:
        kind, name, start, _ = self._peek()
        if kind != "word":
            raise self._problem(f"a name is expected, not {name!r}" if name else "a name is missing")
        self.place += 1
        args: list[Any] = []
        keywords: dict[str, Any] = {}
        if self._accept("("):
            self._check(depth)
            while not self._accept(")"):
                ahead = self.tokens[self.place + 1 : self.place + 2]
                if self._peek()[0] == "word" and ahead and ahead[0][1] == "=":
                    key = self._peek()[1]
                    self.place += 2
                    if key in keywords:
                        raise self._problem(f"{key} is given twice")
                    keywords[key] = self._value(depth + 1)
                elif keywords:
                    raise self._problem(f"{self._peek()[1]!r} stands after an argument that is named")
                else:
                    args.append(self._value(depth + 1))
                self._comma_or(")")
        return Call(name, tuple(args), tuple(keywords.items()), self.text[start : self.tokens[self.place - 1][3]])

    def _value(self, depth: int) -> Any:
        self._check(depth)
        kind, token, _, _ = self._peek()
        if kind == "word":
            if token in _CONSTANTS:
                self.place += 1
                return _CONSTANTS[token]
            call = self._call(depth)
            return Word(call.name) if call.source == call.name else call
        if kind in ("number", "text"):
            self.place += 1
            try:
                return ast.literal_eval(token)
            except (ValueError, SyntaxError):  # 007, an integer of 5,000 digits, a bad escape
                raise self._problem(f"{token[:40]!r} is not a {kind}") from None
        for opening, closing in ("[]", "()"):
            if self._accept(opening):
                items = []
                while not self._accept(closing):
                    items.append(self._value(depth + 1))
                    self._comma_or(closing)
                if closing == "]":
                    return items
                comma = self.tokens[self.place - 2][1] == ","
                return items[0] if len(items) == 1 and not comma else tuple(items)  # (1) is 1, as in Python
        raise self._problem(f"a value is expected, not {token!r}" if token else "it ends too early")

    def _peek(self) -> tuple[str, str, int, int]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "", len(self.text), len(self.text))

    def _accept(self, sign: str) -> bool:
        kind, token, _, _ = self._peek()
        taken = kind == "sign" and token == sign
        self.place += taken
        return taken

    def _comma_or(self, closing: str) -> None:
        kind, token, _, _ = self._peek()
        if not self._accept(",") and not (kind == "sign" and token == closing):
            raise self._problem(
                f"{token!r} stands where a comma or {closing} is expected" if token else "it ends too early"
            )

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._problem(f"it is nested deeper than {MAX_DEPTH}")

    def _problem(self, what: str) -> FastnoisyError:
        return FastnoisyError(f"{shorten(self.text)!r}: {what}")
