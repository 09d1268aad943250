"""What the page of an audit shows: which images, and what is said of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnoisy import machine
from fastnoisy.data.store import Store
from fastnoisy.errors import one_line
from fastnoisy.label_audit.output import classes
from fastnoisy.report import page as report
from fastnoisy.report.page import Card, ClassRow, Group, Page, Remark
from fastnoisy.report.thumbnails import thumbnails

if TYPE_CHECKING:
    from fastnoisy.label_audit.audit import Audit

NAME = "audit.html"
MOST_FLAGGED = 10_000  # cards: a page of about 50 MB
MOST = 2_000  # above it no image is shown that is not flagged
_AT_LEAST = 100  # images that are not flagged, where there are so many
MOST_IN_GROUPS = 4_000  # images; as many of those that are remarked on
MOST_IN_GROUP = 60
_LIKELY = 5  # classes that a card names
_LEAST = 0.01  # the probability of all but the first


def write(
    audit: Audit,
    store: Store,
    *,
    threads: int = 0,
    poll: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Write the page of an audit, `NAME` in its folder.

    Args:
        audit: what was found.
        store: the open store that was looked at.
        threads: that make thumbnails; 0: one per core.
        poll: told how many of how many thumbnails are done; may raise, to stop.

    Raises:
        FastnoisyError: a record is damaged.
        OSError: the page cannot be written.
    """
    page, numbers = build(audit, _title(audit, store))
    splits = [store.splits[name] for name in audit.images.split_names]
    places = [(splits[audit.images.split[i]], int(audit.images.index[i])) for i in numbers]
    total = len(places)
    audit.out.mkdir(parents=True, exist_ok=True)
    made = thumbnails(places, threads=threads or machine.cores(), poll=lambda done: poll(done, total))
    report.write(audit.out / NAME, page, made)


def build(audit: Audit, title: str) -> tuple[Page, list[int]]:
    """What the page shows, and the number in `audit.images` of each of its cards."""
    images = audit.images
    numbers = _suspects(audit)
    suspects = len(numbers)
    card_of = {number: card for card, number in enumerate(numbers)}

    def card(number: int) -> int:
        if number not in card_of:
            card_of[number] = len(numbers)
            numbers.append(number)
        return card_of[number]

    groups: list[Group] = []
    room = MOST_IN_GROUPS
    for group in audit.groups:
        kind, members = group.kind, group.members
        shown = members[:MOST_IN_GROUP]
        room -= len(shown)
        if room < 0:
            break
        groups.append(Group(kind, tuple(card(int(number)) for number in shown), len(members)))
    listed = tuple(Remark(card(int(number)), text) for number, text in audit.oddities[:MOST_IN_GROUPS])
    page = Page(
        title=title,
        class_names=images.class_names,
        splits=images.split_names,
        classes=tuple(ClassRow(row.images, round(row.wrong, 1), row.flagged) for row in classes(audit)),
        cards=tuple(_cards(audit, np.array(numbers, np.int64))),
        suspects=suspects,
        images=len(images.given),
        judged=int(audit.judged.sum()),
        wrong=audit.flags.count,
        rate=float(audit.flags.rate),
        flagged=int(audit.flags.flagged.sum()),
        network=audit.network,
        store=shlex.quote(one_line(audit.store)),
        groups=tuple(groups),
        remarks=listed,
        groups_left_out=len(audit.groups) - len(groups),
        remarks_left_out=len(audit.oddities) - len(listed),
    )
    return page, numbers


def _suspects(audit: Audit) -> list[int]:
    """The flagged images, then the most suspect of the others: about as many again, to see where suspicion ends."""
    order = audit.order
    flagged = order[audit.flags.flagged[order]][:MOST_FLAGGED]
    others = order[~audit.flags.flagged[order] & audit.judged[order]]
    room = min(max(len(flagged), _AT_LEAST), MOST - len(flagged))
    return [*flagged.tolist(), *others[: max(room, 0)].tolist()]


def _cards(audit: Audit, numbers: np.ndarray) -> list[Card]:
    images = audit.images
    probabilities = audit.judgement.probabilities[numbers].astype(np.float64)
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : _LIKELY + 1]
    cards = []
    for number, row, likeliest in zip(numbers.tolist(), probabilities, ranked.tolist(), strict=True):
        given, judged = int(images.given[number]), bool(audit.judged[number])
        likely = [(label, round(float(row[label]), 3)) for label in likeliest if label != given]
        cards.append(
            Card(
                split=int(images.split[number]),
                path=images.paths[number],
                given=given,
                score=round(float(audit.score[number]), 3) if judged else None,
                flagged=bool(audit.flags.flagged[number]),
                likely=(*likely[:1], *(pair for pair in likely[1:_LIKELY] if pair[1] >= _LEAST)) if judged else (),
            )
        )
    return cards


def _title(audit: Audit, store: Store) -> str:
    """The name of what was converted: `photos` of `folder:/data/photos`; the store's own where it does not say."""
    kind, _, path = next(iter(store.splits.values())).source.partition(":")
    return Path(path).name or kind or audit.store.resolve().name
