"""Functions `(batch_size) -> (inputs, outputs, last_batch)` as data."""

import collections
import itertools
from collections.abc import Callable
from typing import Any

import keras

from ..sequence import Sequence
from .pairs import padded, rounded
from .rows import Rows, checked_pairs

Generator = Callable[[int], tuple[Any, Any, bool]]
# Calls after which a pass that has not ended is taken for one that never does.
_ENDLESS = 100_000
# Keras on tensorflow takes lengths that the first two batches share for those of all.
_TAKES_SHAPES = keras.backend.backend() == "tensorflow"


class GeneratorRows:
    """What a function `(batch_size) -> (inputs, outputs, last_batch)` gives, checked at each call.

    Args:
        function: gives inputs, a list of arrays [T, C] or an array [N, T, C], as many outputs or `None`, and whether
            that was the last batch of the pass.
        batch_size: of each call.
        dims: C and D.
        dtype: of the rows.

    Raises:
        TypeError: no function.
        ValueError: on a call, what breaks the promise; the message names the call and the row.
    """

    def __init__(self, function: Generator, batch_size: int, dims: tuple[int, int], dtype: str) -> None:
        if not callable(function):
            raise TypeError(f"a generator is a function of the batch size; received {function!r:.200}")
        self._function, self._batch_size, self._dims, self._dtype = function, batch_size, dims, dtype
        self._calls, self._ahead = 0, collections.deque[tuple[Rows, Rows | None, bool]]()

    def ahead(self, count: int) -> tuple[Rows, Rows | None]:
        """So many of the next batches as one, which `call` gives all the same."""
        self._ahead += [self._call() for _ in range(count - len(self._ahead))]
        return joined([batch[:2] for batch in self._ahead])

    def call(self) -> tuple[Rows, Rows | None, bool]:
        """The next batch: inputs, outputs or `None`, and whether it ends a pass."""
        return self._ahead.popleft() if self._ahead else self._call()

    def _call(self):
        made, call = self._function(self._batch_size), f"call {self._calls} of the generator"
        self._calls += 1
        if not isinstance(made, (tuple, list)) or len(made) != 3:
            received = f"{len(made)} values" if isinstance(made, (tuple, list)) else type(made).__name__
            raise ValueError(f"{call} must give (inputs, outputs, last_batch); received {received}")
        inputs, outputs, last = made
        if last not in (True, False):
            raise ValueError(f"{call} must say by True or False whether it was the last batch; received {last!r:.100}")
        inputs, outputs = checked_pairs(inputs, outputs, self._dims, self._dtype, f"{call}: ")
        if len(inputs) > self._batch_size:
            raise ValueError(f"{call} must give at most {self._batch_size} sequences; received {len(inputs)}")
        return inputs, outputs, bool(last)

    def one_pass(self, most: int = _ENDLESS) -> tuple[Rows, Rows | None]:
        """All of one pass, up to the last batch.

        Args:
            most: calls after which it is an error that none was the last.
        """
        batches = []
        for _ in range(most):
            *batch, last = self.call()
            batches.append(batch)
            if last:
                return joined(batches)
        raise ValueError(f"a generator must say where a pass ends; received no last_batch=True in {most} calls")


class Drawn(keras.utils.PyDataset):
    """What a generator gives, pass after pass, as batches of Keras's: an epoch is so many of them.

    The batch at a place of an epoch is that of the call of this number, and what is not asked for is passed by: so an
    epoch that training begins with is what it would be after those before it.

    Args:
        rows: the generator.
        steps: batches of an epoch.
        batch_size: rows of a batch; those that are missing are rows without steps.
        dtype: of the values.
    """

    def __init__(self, rows: GeneratorRows, steps: int, batch_size: int, dtype: str) -> None:
        super().__init__()
        self._rows, self._steps, self._batch_size, self._dtype = rows, steps, batch_size, dtype
        self.epoch: int = 0
        self._next = 0
        # Keras may look at a batch before it trains on it: then it is the same one.
        self._held: dict[int, tuple[dict[str, Sequence]]] = {}

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[dict[str, Sequence]]:
        begin = self.epoch * self._steps
        self._held = {number: batch for number, batch in self._held.items() if number >= begin}
        while self._next <= begin + index:
            inputs, outputs, _ = self._rows.call()
            if self._next >= begin:
                pair = {"inputs": inputs, "outputs": inputs if outputs is None else outputs}
                self._held[self._next] = ({name: self._padded(rows, name) for name, rows in pair.items()},)
            self._next += 1
        return self._held[begin + index]

    def _padded(self, rows, name):
        length = rounded(max(map(len, rows)))
        if _TAKES_SHAPES and self._next == 1 and length == self._held[0][0][name].values.shape[1]:
            length += 1
        return padded(rows, range(len(rows)), length, self._batch_size, self._dtype)


def joined(batches: list[Any]) -> tuple[Rows, Rows | None]:
    """Batches of inputs and outputs as one.

    Raises:
        ValueError: some have outputs, and some have none.
    """
    inputs, outputs = zip(*batches, strict=True)
    missing = [i for i, rows in enumerate(outputs) if rows is None]
    if missing and len(missing) < len(outputs):
        raise ValueError(f"a generator gives outputs always or never; received none in batch {missing[0]}")
    return list(itertools.chain(*inputs)), None if missing else list(itertools.chain(*outputs))
