"""Training on lists of arrays: what `fit`, `evaluate` and `train` make of them."""

from typing import Any

import keras
import numpy as np

from ..arguments import as_number, as_size
from .generators import Drawn, Generator
from .pairs import SequencePairs, lengths
from .reading import SequenceReader
from .rows import Rows

# Batches of a generator that the scale of the data is learned from.
_FIRST = 32


class SequenceModel(SequenceReader):
    """A Keras model that takes lists of arrays where others take one array.

    A subclass computes: its `call` takes batches of `SequencePairs`, and what `encode`, `decode` and `predict` ask for.
    """

    scaling: bool
    seed: int

    # Training.

    def adapt(self, x: Any, y: Any = None) -> None:
        """Learn the scale of values and of lengths, as the first `fit` does.

        Args:
            x: inputs, as for `fit`.
            y: outputs, by default the inputs.
        """
        inputs, outputs = self._rows_of(x, y)
        self._learn(inputs, inputs if outputs is None else outputs)

    def _learn(self, inputs, outputs):
        if self.scaling:
            self.encoder.scaling.learn(inputs)
            self.output_scaling.learn(outputs)
        # What is counted is what the last layer gives.
        counts = np.array([self.encoder.output_length(int(length)) for length in lengths(inputs)])
        self.encoder.counted.learn(counts)
        self.decoder.lengths.learn(lengths(outputs))
        self.stop.learn(lengths(outputs), keras.ops.convert_to_numpy(self.encoder.counted.scaled(counts)))
        self.prepare(inputs, outputs)

    def prepare(self, inputs: Rows, outputs: Rows) -> None:
        """Set weights to what they begin with, now that the scale of the data is known."""

    def pairs(
        self, x: Any, y: Any = None, batch_size: int | None = None, shuffle: bool = True, field: str | None = None
    ) -> SequencePairs:
        """Sequences as the data set that `fit` makes of them.

        Args:
            x: inputs: a list of arrays [T, C], a `kseq.Ragged`, an array [N, T, C], a store, a function `(batch_size)
                -> (inputs, outputs, last_batch)`, of which one pass is read, or `SequencePairs`, which are given back.
            y: outputs, as many and of the same kinds, or `None` for the inputs; of a store the name of a field.
            batch_size: rows of a batch; by default 32.
            shuffle: whether each epoch has another order.
            field: of a store, the name of the inputs; by default its main sequence.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names.
        """
        return self._pairs(x, y, batch_size, shuffle, field)

    def _pairs(self, x, y, batch_size, shuffle, field=None, prefix=""):
        if isinstance(x, SequencePairs):
            if y is not None:
                raise ValueError("SequencePairs have outputs of their own; received others as well")
            dims = x.inputs[0].shape[1], (x.outputs or x.inputs)[0].shape[1]
            if dims != self._dims:
                raise ValueError(
                    f"SequencePairs must have channels {self._dims}, of inputs and outputs; received {dims}"
                )
            return x
        size = 32 if batch_size is None else as_size("batch_size", batch_size)
        inputs, outputs = self._rows_of(x, y, size, field, prefix)
        return SequencePairs(inputs, outputs, size, shuffle, self.seed, self.data_dtype)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        *,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        **options: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does, on lists of arrays.

        What is trained on in an epoch, and what is drawn in it, follows from the number of the epoch: a run that
        `keras.callbacks.BackupAndRestore` resumes is the run that was not interrupted.

        Args:
            x, y: inputs and outputs, as for `pairs`.
            batch_size: rows of a batch; by default 32.
            epochs, verbose, callbacks: as in Keras, which must be told by `mode="min"` how to monitor `val_nmse`.
            validation_split: fraction of the sequences, the last ones, that are validated on and not trained on.
            validation_data: inputs, or a pair of inputs and outputs.
            shuffle: whether each epoch has another order.
            steps_per_epoch: batches of an epoch; by default those in which each sequence comes once.
            validation_batch_size: rows of a batch of `validation_data`; by default `batch_size`.
            **options: as in Keras; weights of samples and classes are refused.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names; then nothing has changed.
        """
        self._check_trains("fit", options)
        pairs, held = self._pairs(x, y, batch_size, shuffle), None
        if validation_data is not None:
            held = self._validation(validation_data, validation_batch_size or batch_size)
        elif validation_split:
            fraction = as_number("validation_split", validation_split, "at least 0 and below 1", lambda x: 0 <= x < 1)
            pairs, held = pairs.split(fraction)
        if steps_per_epoch is not None:
            pairs = pairs.of_steps(steps_per_epoch)
        if not self.adapted:
            self._learn(pairs.inputs, pairs.inputs if pairs.outputs is None else pairs.outputs)
        return super().fit(
            pairs,
            epochs=epochs,
            verbose=verbose,
            callbacks=[*_listed(callbacks), _Order(pairs, self.seed)],
            validation_data=held,
            shuffle=False,  # the pairs have shuffled
            **options,
        )

    def _check_trains(self, what, options):
        """Refuse, before anything has changed, what Keras would refuse later or not at all."""
        if not self.compiled:
            raise ValueError(f"{what} needs a model that knows how to train: call compile first")
        for name in ("sample_weight", "class_weight"):
            if options.get(name) is not None:
                raise ValueError(f"{what} takes no {name}, since every valid step counts alike; received one")

    def _validation(self, data, batch_size):
        if isinstance(data, tuple) and len(data) == 3:
            raise ValueError("validation_data must be inputs, or (inputs, outputs), without weights; received three")
        given = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
        return self._pairs(*given, batch_size, shuffle=False, prefix="validation ")

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **options: Any) -> Any:
        """Loss and metrics as `keras.Model.evaluate` gives them, of lists of arrays, decoded without teacher forcing.

        Args:
            x, y: inputs and outputs, as for `pairs`.
            batch_size: rows of a batch; by default 32.
            **options: as in Keras.
        """
        self._check_adapted("evaluate")
        self._check_trains("evaluate", options)
        return super().evaluate(self.pairs(x, y, batch_size, shuffle=False), **options)

    def train(
        self,
        train_generator: Any = True,
        valid_generator: Generator | None = None,
        n_iterations: int = 1000,
        batch_size: int = 100,
        display_step: int = 100,
        **options: Any,
    ) -> Any:
        """Train for a number of iterations on what a generator gives.

        A run that `keras.callbacks.BackupAndRestore` resumes passes by what was trained on, and goes on after it: it is
        the run that was not interrupted, if the generator gives the same again from its beginning.

        Args:
            train_generator: a function `(batch_size) -> (inputs, outputs, last_batch)`: lists of arrays or an array
                [N, T, C], outputs or `None`, and whether that ends a pass; then the next call begins another one.
            valid_generator: the same; one pass is what is validated on.
            n_iterations: batches to train on.
            batch_size: of each.
            display_step: iterations after which the numbers are shown, and those of validation measured.
            **options: of `fit`, as `verbose` and `callbacks`.

        Returns:
            Keras's `History`, an entry for each `display_step`.

        Raises:
            ValueError: a generator that breaks its promise: the message names the call, and the row.
        """
        if isinstance(train_generator, bool) and hasattr(keras.Model, "train"):
            # On torch a model is a module, whose method of this name sets its mode.
            return super().train(train_generator)
        self._check_trains("train", options)
        steps, every = as_size("n_iterations", n_iterations), as_size("display_step", display_step)
        size = as_size("batch_size", batch_size)
        given, held = self._generated(train_generator, size), None
        if valid_generator is not None:
            rows = self._generated(valid_generator, size).one_pass()
            held = SequencePairs(*rows, size, shuffle=False, dtype=self.data_dtype)
        if not self.adapted:
            inputs, outputs = given.ahead(min(_FIRST, steps))
            self._learn(inputs, inputs if outputs is None else outputs)
        every = min(every, steps)
        drawn = Drawn(given, every, size, self.data_dtype)
        callbacks = [*_listed(options.pop("callbacks", None)), _Order(drawn, self.seed), _StopAfter(steps, every)]
        # An epoch of Keras's is what is shown once.
        epochs = -(-steps // every)
        return super().fit(drawn, epochs=epochs, validation_data=held, shuffle=False, callbacks=callbacks, **options)


def _listed(callbacks):
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]


class _StopAfter(keras.callbacks.Callback):
    """Ends training after a number of batches, of which an epoch has so many; those before it have been trained on."""

    def __init__(self, steps, every):
        super().__init__()
        self._steps, self._every, self._before = steps, every, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._before = epoch * self._every

    def on_train_batch_end(self, batch, logs=None):
        # Of several batches in one execution, the last one, which the epoch may not have.
        if self._before + min(batch + 1, self._every) >= self._steps:
            self.model.stop_training = True


class _Order(keras.callbacks.Callback):
    """Makes what an epoch is trained on, and what is drawn at random in it, a function of the epoch's number.

    Random generators are no weights, and so in no checkpoint; with this a run that goes on from one is as it was.
    """

    def __init__(self, data, seed):
        super().__init__()
        self._data, self._seed = data, seed

    def on_epoch_begin(self, epoch, logs=None):
        self._data.epoch = epoch
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            words = np.random.SeedSequence([self._seed & 0xFFFFFFFF, epoch, number]).generate_state(2)
            state.assign(words.astype(keras.backend.standardize_dtype(state.dtype)))
