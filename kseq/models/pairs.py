"""Pairs of sequences as batches of few padded shapes, in an order that follows from seed and epoch alone."""

import copy
from collections.abc import Iterator
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from ..arguments import as_size
from ..ragged import pad
from ..sequence import Sequence
from .rows import Rows, paired

# Padded lengths that a data set has at most: jax compiles each, on torch another one costs little. On tensorflow Keras
# takes the shapes of the first two batches for those of all.
_SHAPES = {"jax": 3, "tensorflow": 1, "torch": 8}


class SequencePairs(keras.utils.PyDataset):
    """Batches of pairs of sequences, those of similar length together: for `fit` and `evaluate` of the autoencoder.

    A batch is a dict of two `kseq.Sequence`s, `inputs` [B, T, C] and `outputs` [B, U, D], padded on the right. All have
    the batch size: what is missing of the last one of a length are rows without steps, which weigh nothing. The batch
    at a place of an epoch is a function of rows, seed and epoch, whatever was asked for before.

    Args:
        inputs: rows [T_i, C].
        outputs: rows [U_i, D], by default the inputs.
        batch_size: B.
        shuffle: whether each epoch has another order.
        seed: of the order.
        dtype: of the values.

    Raises:
        ValueError: another number of outputs than of inputs, a batch size below 1.
    """

    def __init__(
        self,
        inputs: Rows,
        outputs: Rows | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__()
        paired(inputs, outputs)
        self.inputs, self.outputs, self.shuffle, self.seed = inputs, outputs, shuffle, seed
        self.batch_size: int = as_size("batch_size", batch_size)
        self.epoch: int = 0
        self._dtype = dtype
        self._groups = groups(lengths(inputs), lengths(outputs or inputs), self.batch_size)
        self._steps: int | None = None
        self._planned: tuple[int, list[tuple[int, NDArray[np.int64]]]] | None = None

    @property
    def reconstructs(self) -> bool:
        """Whether outputs are the inputs."""
        return self.outputs is None

    @property
    def pass_steps(self) -> int:
        """Batches in which each sequence comes once."""
        return sum(-(-len(rows) // self.batch_size) for rows, _, _ in self._groups)

    def of_steps(self, steps: int) -> Self:
        """The same with so many batches in an epoch: the next one goes on where it ends."""
        other = copy.copy(self)
        other._steps = as_size("steps_per_epoch", steps)
        return other

    def split(self, fraction: float) -> tuple["SequencePairs", "SequencePairs"]:
        """All but the last fraction of the sequences, and the rest, in its order."""
        at = int(len(self.inputs) * (1 - fraction))
        if not 0 < at < len(self.inputs):
            raise ValueError(
                f"validation_split must leave sequences on either side; received {fraction} of {len(self.inputs)}"
            )
        own: dict[str, Any] = {"batch_size": self.batch_size, "seed": self.seed, "dtype": self._dtype}
        first, rest = (
            (self.inputs[part], None if self.outputs is None else self.outputs[part])
            for part in (slice(at), slice(at, None))
        )
        return SequencePairs(*first, shuffle=self.shuffle, **own), SequencePairs(*rest, shuffle=False, **own)

    def __len__(self) -> int:
        return self.pass_steps if self._steps is None else self._steps

    def __getitem__(self, index: int) -> tuple[dict[str, Sequence]]:
        if not 0 <= index < len(self):
            raise IndexError(f"a batch must be in [0, {len(self)}); received {index}")
        turn, place = divmod(self.epoch * len(self) + index, self.pass_steps)
        group, rows = self._plan(turn)[place]
        _, time, steps = self._groups[group]
        inputs = padded(self.inputs, rows, time, self.batch_size, self._dtype)
        if self.outputs is None:
            return ({"inputs": inputs, "outputs": inputs},)
        return ({"inputs": inputs, "outputs": padded(self.outputs, rows, steps, self.batch_size, self._dtype)},)

    def shapes(self) -> tuple[int, int, int]:
        """How many shapes of batches there are, how many steps an epoch has, and how many cells with padding."""
        cells = sum(-(-len(rows) // self.batch_size) * self.batch_size * (t + u) for rows, t, u in self._groups)
        useful = sum(lengths(rows).sum() for rows in (self.inputs, self.outputs or self.inputs))
        return len({(t, u) for _, t, u in self._groups}), int(useful), cells

    def _plan(self, turn):
        planned = self._planned
        if planned is None or planned[0] != turn:
            random = np.random.default_rng([self.seed & 0xFFFFFFFF, turn])
            batches = []
            for number, (rows, _, _) in enumerate(self._groups):
                order = random.permutation(rows) if self.shuffle else rows
                batches += [(number, order[at : at + self.batch_size]) for at in range(0, len(order), self.batch_size)]
            if self.shuffle:
                batches = [batches[i] for i in random.permutation(len(batches))]
            self._planned = planned = turn, batches
        return planned[1]


def lengths(rows: Rows) -> NDArray[np.int64]:
    return np.array([len(row) for row in rows], np.int64)


def groups(
    inputs: NDArray[np.int64], outputs: NDArray[np.int64], batch_size: int
) -> list[tuple[NDArray[np.int64], int, int]]:
    """Rows of similar length, as (numbers of rows, padded length of inputs, padded length of outputs) each.

    There are at most so many that each has two batches, of equal numbers of rows: what padding they spare is spared
    where most rows are.
    """
    most = _SHAPES[keras.backend.backend()]
    count = int(np.clip(len(inputs) // (2 * batch_size), 1, most))
    # Equal lengths stay together, so that data of one length has one shape.
    edges = np.unique(np.quantile(inputs, np.arange(1, count + 1) / count, method="higher"))
    where = np.searchsorted(edges, inputs)
    found = (np.flatnonzero(where == i) for i in range(len(edges)))
    return [(rows, int(inputs[rows].max()), int(outputs[rows].max())) for rows in found if len(rows)]


def padded(rows: Rows, numbers: Any, length: int, batch_size: int, dtype: str) -> Sequence:
    """Some rows as one batch, of so many rows and steps; those that are missing have no steps."""
    chosen = [rows[i] for i in numbers]
    chosen += [chosen[0][:0]] * (batch_size - len(chosen))
    return Sequence(*pad(chosen, length=length, dtype=dtype))


def in_batches(
    inputs: NDArray[np.int64], outputs: NDArray[np.int64], batch_size: int
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """What is to be computed without an order: numbers of rows, and lengths to pad to, batch by batch."""
    for rows, time, steps in groups(inputs, outputs, batch_size):
        for at in range(0, len(rows), batch_size):
            yield rows[at : at + batch_size], rounded(time), rounded(steps)


def rounded(length: int) -> int:
    """A padded length at least as long, of few that there are: other data then has no other shapes to compile."""
    step = 8 if length <= 64 else 2 ** (int(length).bit_length() - 3)
    return -(-int(length) // step) * step
