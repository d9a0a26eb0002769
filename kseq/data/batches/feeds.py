"""Batches as data sets of other libraries, one element a batch; and the records of a store, one element a record."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..errors import RecordError, SchemaError

if TYPE_CHECKING:
    from ..store.protocol import Records
    from .batches import Batches

_numbers = itertools.count()
_feeds: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # of torch, by number


def to_torch(batches: Batches) -> Any:
    """A `torch.utils.data.IterableDataset` of batches, for `DataLoader(dataset, batch_size=None)`.

    Every iteration is the next epoch, or the rest of one. Workers of a `DataLoader` make each its own batches of the
    epoch. The state of `batches` is that of the batches which have come to this process, in their order; workers that
    persist begin the next epoch if an iteration was left.

    Args:
        batches: `Batches`.

    Raises:
        ImportError: torch is not installed.
    """
    return _torch_feed(batches, next(_numbers))


def _torch_feed(batches, number):
    import torch

    class TorchBatches(torch.utils.data.IterableDataset):
        """Batches of tensors."""

        def __init__(self):
            self.pass_of_workers, self.early = None, set()

        def __len__(self):
            return len(batches)

        def __iter__(self):
            worker = torch.utils.data.get_worker_info()
            if worker is None:
                return (keras.tree.map_structure(tensor, batch) for batch in batches)
            return self.share(worker)

        def share(self, worker):
            """The batches that a worker makes, each with its place and the pass that it belongs to."""
            epoch, first = begun = batches.place
            batches.epoch = epoch + 1  # for a worker that persists
            mine = worker.seed - worker.id, begun  # the seed is that of the iteration
            for index in range(first + worker.id, batches.steps(epoch), worker.num_workers):
                batch = keras.tree.map_structure(tensor, batches.batch(index, epoch))
                yield _Sent(number, mine, (epoch, index), batch)

        def arrived(self, pass_of_workers, place):
            """Note in the main process that a batch has come, perhaps before those in front of it."""
            if pass_of_workers != self.pass_of_workers:
                self.pass_of_workers, self.early = pass_of_workers, set()
                batches.place = pass_of_workers[1]
            self.early.add(place)
            while batches.place in self.early:
                self.early.discard(batches.take())

        def __reduce__(self):
            return _torch_feed, (batches, number)

    def tensor(array):
        # Texts stay NumPy; torch may write to what it is given, which files must not be.
        if array.dtype.kind == "O":
            return array
        return torch.from_numpy(array if array.flags.writeable else array.copy())

    feed = _feeds[number] = TorchBatches()
    return feed


class _Sent:
    """A batch on its way from a worker to the main process, where it is a batch like others."""

    def __init__(self, *parts):
        self._parts = parts

    def __reduce__(self):
        return _receive, self._parts


def _receive(number, pass_of_workers, place, batch):
    feed = _feeds.get(number)
    if feed is not None:
        feed.arrived(pass_of_workers, place)
    return batch


def to_tf(batches: Batches) -> Any:
    """A `tf.data.Dataset` of batches, prefetched, for the tensorflow backend; every iteration is the next epoch.

    Its cardinality is known where all epochs have as many batches and the first is not begun yet.

    Args:
        batches: `Batches`.

    Raises:
        ImportError: tensorflow is not installed.
    """
    import tensorflow as tf

    def spec(array):
        shape = (None,) * min(array.ndim, 2) + array.shape[2:]  # rows and time differ from batch to batch
        return tf.TensorSpec(shape, tf.string if array.dtype.kind == "O" else array.dtype)

    signature = keras.tree.map_structure(spec, batches.batch(0))
    if batches.steps_vary or batches.state()["batch"]:  # else the first pass, or any, has other than is said
        dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
        return dataset.prefetch(tf.data.AUTOTUNE)
    steps = len(batches)

    def exactly():
        # Where a pass was broken off, or a state restored, the next one ends within the epoch that follows.
        return itertools.islice(itertools.chain.from_iterable(itertools.repeat(batches)), steps)

    dataset = tf.data.Dataset.from_generator(exactly, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def to_grain(batches: Batches, epochs: int = 1) -> Any:
    """A `grain.MapDataset` of batches, in the order of the plan.

    Args:
        batches: `Batches`.
        epochs: how many epochs follow one another, from the one that `batches` is at.

    Raises:
        ImportError: grain is not installed.
    """
    import grain

    return grain.MapDataset.source(_Places(batches, epochs))


class _Places:
    """Batches of several epochs by one index."""

    def __init__(self, batches, epochs):
        self._batches, self._first = batches, batches.epoch
        lengths = [batches.steps(self._first + epoch) for epoch in range(epochs)]
        self._ends = np.cumsum(lengths)

    def __len__(self):
        return int(self._ends[-1])

    def __getitem__(self, index):
        epoch = int(np.searchsorted(self._ends, index, "right"))
        return self._batches.batch(int(index - (self._ends[epoch - 1] if epoch else 0)), self._first + epoch)


def records_to_tf(store: Records, fields: Sequence[str] | None = None) -> Any:
    """A `tf.data.Dataset` of the records of a store, in their order: of each a tuple of its fields.

    Args:
        store: the `Store`.
        fields: names of fields; by default all, as the schema has them.

    Raises:
        ImportError: tensorflow is not installed.
        SchemaError: a name that is no field, a field whose dtype tensorflow does not have.
        RecordError: when it is read, a value that is missing.
    """
    import tensorflow as tf

    if isinstance(fields, str) or (fields is not None and not fields):
        raise SchemaError(f"fields must be a list of names; received {fields!r}")
    fields = list(store.schema if fields is None else fields)

    def spec(name):
        if name not in store.schema:
            raise SchemaError(f"fields must be among {list(store.schema)}; received {name!r}")
        field = store.schema[name]
        try:
            return tf.TensorSpec(field.shape, tf.string if field.text else tf.as_dtype(field.dtype))
        except TypeError:
            raise SchemaError(f"tensorflow has no dtype for field {name!r}, which is {field}") from None

    def tuples():
        for number, record in enumerate(store):
            for name in fields:
                if record[name] is None:
                    raise RecordError("the value is missing", number, name)
            yield tuple(record[name] for name in fields)

    dataset = tf.data.Dataset.from_generator(tuples, output_signature=tuple(map(spec, fields)))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(store))).prefetch(tf.data.AUTOTUNE)
