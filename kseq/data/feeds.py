"""Batches as data sets of other libraries, one element a batch."""

import itertools

import keras
import numpy as np


def to_torch(batches):
    """A `torch.utils.data.IterableDataset` of batches, for `DataLoader(dataset, batch_size=None)`.

    Every iteration is the next epoch. Workers of a `DataLoader` share the batches of an epoch.

    Args:
        batches: `Batches`.

    Raises:
        ImportError: torch is not installed.
    """
    import torch

    class TorchBatches(torch.utils.data.IterableDataset):
        """Batches of tensors."""

        def __len__(self):
            return len(batches)

        def __iter__(self):
            worker = torch.utils.data.get_worker_info()
            found = iter(batches)
            if worker is not None:
                found = itertools.islice(found, worker.id, None, worker.num_workers)
            return (keras.tree.map_structure(tensor, batch) for batch in found)

    def tensor(array):
        # Texts stay NumPy; torch may write to what it is given, which files must not be.
        if array.dtype.kind == "O":
            return array
        return torch.from_numpy(array if array.flags.writeable else array.copy())

    return TorchBatches()


def to_tf(batches):
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


def to_grain(batches, epochs=1):
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
