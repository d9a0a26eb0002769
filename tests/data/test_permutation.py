"""Random orders: each as often as chance has it, and the same whatever part of them is asked for."""

import itertools
import math

import numpy as np
import pytest

from kseq.data.permutation import permute


def deviation(counts, expected):
    """How far counts are from what is expected, in standard deviations of chi-squared."""
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_all_orders_of_few_elements_are_as_frequent(size):
    numbers = {order: number for number, order in enumerate(itertools.permutations(range(size)))}
    draws = 40 * len(numbers)
    counts = np.bincount([numbers[tuple(permute(0, size, size, (seed, 0)))] for seed in range(draws)])
    assert counts.size == len(numbers) and abs(deviation(counts, 40)) < 4


@pytest.mark.parametrize("size", [8, 20, 64])
@pytest.mark.parametrize("places", [(0, 1), (1, 7)])
def test_all_pairs_of_neighbours_are_as_frequent(size, places):
    draws = 5 * size * (size - 1)
    pairs = np.array([permute(0, size, size, (3, epoch))[list(places)] for epoch in range(draws)])
    counts = np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size)
    assert not counts.diagonal().any()
    assert abs(deviation(counts[~np.eye(size, dtype=bool)], 5)) < 4


@pytest.mark.parametrize("size", [0, 1, 7, 511, 512, 513, 514])
def test_parts_are_those_of_the_whole(size):
    whole = permute(0, size, size, (1, 2))
    assert sorted(whole.tolist()) == list(range(size)) and whole.dtype == np.int64
    for start in range(0, size, 100):
        count = min(70, size - start)
        assert permute(start, count, size, (1, 2)).tolist() == whole[start : start + count].tolist()
    for start, count in ((-1, 1), (0, size + 1), (size, 1)):
        with pytest.raises(ValueError, match="must lie in"):
            permute(start, count, size, (1, 2))


def test_orders_are_the_same_everywhere():
    assert permute(0, 8, 8, (1, 2)).tolist() == [2, 7, 3, 1, 5, 6, 0, 4]
    assert permute(0, 5, 600, (1, 2)).tolist() == [188, 424, 106, 213, 428]
