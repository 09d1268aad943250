"""Order: a pure function, a permutation, cut into batches that resume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnoisy.order import (
    SORTED,
    Permuted,
    Population,
    balanced,
    batches,
    blocked,
    micro_batches,
    name,
    num_batches,
    order,
    permutation,
    pieces,
    share,
    stratified,
)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 300), st.integers(0, 1000), st.integers(0, 50), st.integers(1, 40), st.booleans())
def test_an_epoch_visits_each_row_once_and_resumes_anywhere(
    n: int, seed: int, epoch: int, size: int, drop: bool
) -> None:
    population = Population("train", np.arange(0, 3 * n, 3, dtype=np.int64))
    rows = order(population, "train", seed, epoch)
    assert np.array_equal(np.sort(rows), population.indices)
    cut = list(batches(rows, size, drop))
    assert len(cut) == num_batches(n, size, drop)
    assert sum(map(len, cut)) == (n - n % size if drop else n)
    for first in range(len(cut) + 1):
        again = list(batches(rows, size, drop, first))
        assert all(np.array_equal(a, b) for a, b in zip(cut[first:], again, strict=True))


def test_orders_differ_by_seed_epoch_and_stream_and_nothing_else() -> None:
    population = Population("train", np.arange(1000))
    base = order(population, "train", 1, 0)
    assert np.array_equal(base, order(Population("other name", np.arange(1000)), "train", 1, 0))
    for other in (order(population, "train", 2, 0), order(population, "train", 1, 1), order(population, "b", 1, 0)):
        assert (base == other).mean() < 0.02


def test_a_subset_keeps_the_order_of_the_whole() -> None:
    whole = order(Population("train", np.arange(1000)), "train", 1, 4)
    part = np.arange(0, 1000, 7)
    assert np.array_equal(order(Population("part", part), "train", 1, 4), whole[np.isin(whole, part)])


def test_stratified_takes_the_share_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    rows = np.arange(1000, 1160)
    chosen = stratified(rows, labels, 16, 1, "holdout")
    assert np.bincount(labels[chosen - 1000]).tolist() == [10, 5, 1]
    assert not np.array_equal(chosen, stratified(rows, labels, 16, 2, "holdout"))
    assert not np.array_equal(chosen, stratified(rows, labels, 16, 1, "subset"))
    assert len(stratified(rows, labels, 0, 1, "holdout")) == 0
    for count in (1, 7, 33, 159, 160):
        assert len(stratified(rows, labels, count, 1, "subset")) == count


def test_a_balanced_draw_is_fresh_every_epoch_and_a_pure_function() -> None:
    rows = np.arange(3, 1003)
    labels = (np.arange(1000) * 13) % 7
    first = balanced(rows, labels, 200, seed=1, epoch=0)
    assert (np.diff(first) > 0).all(), "distinct and ascending"
    assert np.isin(first, rows).all()
    counts = np.bincount(labels[first - 3], minlength=7)
    assert counts.sum() == 200
    assert set(counts) == {28, 29}
    assert np.array_equal(first, balanced(rows, labels, 200, seed=1, epoch=0))
    shuffled = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(first, balanced(rows[shuffled], labels[shuffled], 200, seed=1, epoch=0))
    for other in (balanced(rows, labels, 200, seed=1, epoch=1), balanced(rows, labels, 200, seed=2, epoch=0)):
        assert len(other) == 200
        assert len(np.intersect1d(first, other)) < 80, "about 40 by chance"
    drawn = [np.bincount(labels[balanced(rows, labels, 200, 1, e) - 3], minlength=7) for e in range(40)]
    assert np.ptp(np.sum(drawn, axis=0)) <= 30, "no class is always the one that gives more"
    seen = np.unique(np.concatenate([balanced(rows, labels, 200, 1, e) for e in range(40)]))
    assert len(seen) > 990, "every image comes up in time"


def test_a_class_too_small_for_its_share_gives_all_it_has() -> None:
    labels = np.repeat([0, 1, 2], [50, 4, 50])
    for epoch in range(5):
        drawn = balanced(np.arange(104), labels, 31, seed=1, epoch=epoch)
        assert np.bincount(labels[drawn])[1] == 4
        assert sorted(np.bincount(labels[drawn])) == [4, 10, 11]
    assert len(balanced(np.arange(104), labels, 10_000, seed=1, epoch=0)) == 104


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000), st.integers(0, 50))
def test_blocked_order_visits_each_row_once_and_a_windows_pages_together(
    n: int, per_page: int, window: int, seed: int, epoch: int
) -> None:
    population = Population("train", np.arange(0, 2 * n, 2, dtype=np.int64))
    pages = 7 + np.arange(2 * n) // per_page
    rows = blocked(population, pages, window, "train", seed, epoch)
    assert np.array_equal(np.sort(rows), population.indices)
    assert np.array_equal(rows, blocked(population, pages, window, "train", seed, epoch))
    visited = pages[rows]
    windows: list[set[int]] = [set()]
    for page in visited.tolist():
        if page not in windows[-1] and len(windows[-1]) == window:
            windows.append(set())
        windows[-1].add(page)
    assert sum(map(len, windows)) == len(np.unique(visited)), "a page comes back after its window has ended"


def test_blocked_order_is_random_in_pages_and_rows() -> None:
    population, pages = Population("train", np.arange(4000)), np.arange(4000) // 20
    base = blocked(population, pages, 10, "train", 1, 0)
    for other in (
        blocked(population, pages, 10, "train", 2, 0),
        blocked(population, pages, 10, "train", 1, 1),
        blocked(population, pages, 10, "b", 1, 0),
    ):
        assert (base == other).mean() < 0.02
        shared = set(pages[base[:200]].tolist()) & set(pages[other[:200]].tolist())
        assert len(shared) < 5, "windows hold other pages in another epoch"
    assert (np.diff(base[:200]) == 1).mean() < 0.05
    assert np.array_equal(blocked(population, pages, 200, "train", 1, 0), order(population, "train", 1, 0))


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 5))
def test_shares_of_ranks_put_together_are_the_batch(n: int, world_size: int, accumulate: int) -> None:
    batch = np.arange(n) * 3
    parts = [share(batch, rank, world_size, accumulate) for rank in range(world_size)]
    assert np.array_equal(np.sort(np.concatenate(parts)), batch)
    sizes = micro_batches(n, accumulate)
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    own = [[pieces(size, world_size)[rank] for size in sizes] for rank in range(world_size)]
    cut = [np.split(part, np.cumsum(counts)[:-1]) for part, counts in zip(parts, own, strict=True)]
    for number, micro in enumerate(np.split(batch, np.cumsum(sizes)[:-1])):
        assert np.array_equal(np.concatenate([each[number] for each in cut]), micro), "as one process cuts it"
        assert max(len(each[number]) for each in cut) - min(len(each[number]) for each in cut) <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.data())
def test_a_keyed_permutation_is_one_and_any_part_of_it_stands_alone(count: int, key: int, data: st.DataObject) -> None:
    whole = permutation(np.arange(count), count, key)
    assert np.array_equal(np.sort(whole), np.arange(count))
    first = data.draw(st.integers(0, count))
    assert np.array_equal(permutation(np.arange(first, count), count, key), whole[first:])
    rows = Permuted(np.arange(count) * 2, key)
    assert np.array_equal(rows[first : first + 10], 2 * whole[first : first + 10])


@pytest.mark.parametrize("n", [2, 3, 7, 20])
def test_positions_and_pairs_of_a_small_order_are_uniform(n: int) -> None:
    """Chi-square with 4,000 keys; benchmarks/orders.py does all sizes to 100, and large ones."""
    rows = Population("train", np.arange(n))
    orders = np.stack([order(rows, "train", seed, 0)[:] for seed in range(4000)])
    for cells, codes in ((n * n, orders * n + np.arange(n)), (n * (n - 1), _pair_codes(orders[:, :2], n))):
        found = np.bincount(codes.reshape(-1), minlength=n * n)
        expected = codes.size / cells
        statistic = float(((found[found > 0] - expected) ** 2 / expected).sum()) + expected * (
            cells - np.count_nonzero(found)
        )
        assert statistic < cells + 6 * (2 * cells) ** 0.5 + 12


def _pair_codes(pairs: np.ndarray, n: int) -> np.ndarray:
    return pairs[:, 0] * n + pairs[:, 1]


def test_a_large_population_is_permuted_without_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    population = Population("train", np.arange(SORTED + 3))
    rows = order(population, "train", 1, 0)
    assert isinstance(rows, Permuted)
    assert (name(SORTED), name(SORTED + 1)) == ("sort", "feistel-32")
    parts = [rows[first : first + 1000] for first in (0, 5000, SORTED - 500)]
    assert len(np.unique(np.concatenate(parts))) == 2503
    assert all(abs(part.mean() / SORTED - 0.5) < 0.06 for part in parts)
    other = order(population, "train", 1, 1)[:1000]
    assert len(np.intersect1d(parts[0], other)) < 10
    for world_size in range(1, 9):
        cut = next(batches(rows, 256, False))
        shares = [share(cut, rank, world_size) for rank in range(world_size)]
        assert np.array_equal(np.concatenate(shares), parts[0][:256])
