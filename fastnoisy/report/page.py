"""`audit.html`: the suspects of an audit to look through, in one file that opens offline and asks for nothing.

Names of classes and of files are whatever people wrote. They reach the page as JSON in a block that is no script, and
its script puts them in as text; a policy in the page's head forbids every request and every other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fastnoisy.files import replacing
from fastnoisy.label_files.corrections import drops_by_word
from fastnoisy.label_files.meaning import numbers_mislead

SCRIPTS = ("cards.js", "audit.js", "start.js")  # one script, in this order
CHUNK = 100  # thumbnails in a block: the first ones are shown while the rest is still read


@dataclass(frozen=True)
class Card:
    """An image.

    Attributes:
        split: the number of its split.
        path: where it came from; bytes that are no UTF-8 as Python's surrogates.
        given: the number of its class.
        score: the probability of that class; None where nothing can be said.
        flagged: whether its label is called wrong.
        likely: other classes and their probabilities, the likeliest first. The first is suggested where the image is
            flagged, or it is likelier than the given one.
    """

    split: int
    path: str
    given: int
    score: float | None
    flagged: bool
    likely: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ClassRow:
    """What is known of a class: its images, how many labels of it are wrong by estimate, how many are flagged."""

    images: int
    wrong: float
    flagged: int


@dataclass(frozen=True)
class Group:
    """Images that belong together, side by side: duplicates ("same bytes", "near copy", "similar shots").

    Attributes:
        kind: in words.
        cards: places in `Page.cards`.
        size: how many images there are, shown or not.
    """

    kind: str
    cards: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Remark:
    """What is odd about one image: "black", "tiny", "a page of text", "of no class".

    Attributes:
        card: its place in `Page.cards`.
        text: in words.
    """

    card: int
    text: str


@dataclass(frozen=True)
class Page:
    """What the page shows.

    Attributes:
        title: what was audited.
        class_names, splits: their names.
        classes: a row per class.
        cards: the images; first the suspects, the flagged ones before the others, then those that only a group or a
            remark shows.
        suspects: how many of the cards are suspects.
        images, judged: how many the data set has, and of how many something can be said.
        wrong, rate: labels that are wrong by estimate, and their share of those judged.
        flagged: how many are flagged, shown or not.
        network: whose features were used, in words.
        store: what corrections are handed in for, as the command line takes it.
        groups, remarks: may be empty.
        groups_left_out, remarks_left_out: how many there are beside these.
    """

    title: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    cards: tuple[Card, ...]
    suspects: int
    images: int
    judged: int
    wrong: int
    rate: float
    flagged: int
    network: str
    store: str
    groups: tuple[Group, ...] = ()
    remarks: tuple[Remark, ...] = ()
    groups_left_out: int = 0
    remarks_left_out: int = 0

    def content(self) -> dict[str, Any]:
        """What the page's script reads; `digest` is of all the rest, so that it tells this audit from any other."""
        content = {
            **asdict(self),
            "chunk": CHUNK,
            "drop_column": not drops_by_word(self.class_names),
            "numbers_mislead": numbers_mislead(self.class_names),
        }
        return {**content, "digest": hashlib.sha256(_json(content).encode()).hexdigest()}


def write(path: Path, page: Page, thumbnails: Sequence[str]) -> None:
    """Write the page, under a temporary name that is renamed.

    Args:
        path: of the HTML file.
        page: what it shows.
        thumbnails: a JPEG in base64 per card.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as partial, partial.open("w", encoding="ascii", newline="\n") as file:
        for part in _template().generate(**_parts(page, thumbnails)):
            file.write(part)


def _parts(page: Page, thumbnails: Sequence[str]) -> dict[str, Any]:
    style, script = _resource("audit.css"), "\n".join(map(_resource, SCRIPTS))
    return {
        "style": style,
        "style_digest": _policy_digest(style),
        "script": script,
        "script_digest": _policy_digest(script),
        "data": _json(page.content()),
        "blocks": [",".join(thumbnails[i : i + CHUNK]) + ";" for i in range(0, len(thumbnails), CHUNK)],
    }


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("audit.html.jinja"))


def _resource(name: str) -> str:
    return (resources.files("fastnoisy.report") / name).read_text(encoding="ascii")


def _json(content: Any) -> str:
    """JSON of ASCII letters that cannot end the block it stands in."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy_digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
