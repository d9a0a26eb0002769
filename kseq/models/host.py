"""Training on lists of arrays: what `fit`, `evaluate` and `train` make of them."""

from typing import Any

import keras
import numpy as np

from ..arguments import as_size
from .generators import Drawn, Generator, GeneratorRows, joined
from .pairs import Pairs, lengths
from .reading import SequenceReader
from .rows import Rows, checked, is_store, of_store, paired

# Batches of a generator that the scale of the data is learned from.
_FIRST = 32


class SequenceModel(SequenceReader):
    """A Keras model that takes lists of arrays where others take one array.

    A subclass computes: its `call` takes batches of `Pairs`, and what `encode`, `decode` and `predict` ask for.
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
        self.encoder.counted.learn([self.encoder.output_length(int(length)) for length in lengths(inputs)])
        self.decoder.lengths.learn(lengths(outputs))
        self.stop.learn(lengths(outputs))
        self.prepare(inputs, outputs)

    def prepare(self, inputs: Rows, outputs: Rows) -> None:
        """Set weights to what they begin with, now that the scale of the data is known."""

    def pairs(
        self, x: Any, y: Any = None, batch_size: int | None = None, shuffle: bool = True, field: str | None = None
    ) -> Pairs:
        """Sequences as the data set that `fit` makes of them.

        Args:
            x: inputs: a list of arrays [T, C], a `kseq.Ragged`, an array [N, T, C], a store, a function `(batch_size)
                -> (inputs, outputs, last_batch)`, of which one pass is read, or `Pairs`, which are given back.
            y: outputs, as many and of the same kinds, or `None` for the inputs; of a store the name of a field.
            batch_size: rows of a batch; by default 32.
            shuffle: whether each epoch has another order.
            field: of a store, the name of the inputs; by default its main sequence.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names.
        """
        if isinstance(x, Pairs):
            if y is not None:
                raise ValueError("Pairs have outputs of their own; received others as well")
            return x
        size = 32 if batch_size is None else as_size("batch_size", batch_size)
        inputs, outputs = self._rows_of(x, y, size, field)
        return Pairs(inputs, outputs, size, shuffle, self.seed, self.data_dtype)

    def _rows_of(self, x, y, batch_size=32, field=None) -> tuple[Rows, Rows | None]:
        if isinstance(x, Pairs):
            return x.inputs, x.outputs
        if callable(x):
            if y is not None:
                raise ValueError("a generator gives outputs itself; received others as well")
            inputs, outputs = self._generated(x, batch_size).one_pass()
        else:
            if is_store(x):
                inputs, name = of_store(x, field, "inputs")
                y = None if y == name else of_store(x, y, "outputs")[0] if isinstance(y, str) else y
                x = inputs
            inputs = checked(x, "inputs", self.input_dim)
            outputs = None if y is None else checked(y, "outputs", self.output_dim)
            paired(inputs, outputs)
        self._check_reconstructs(outputs)
        return inputs, outputs

    def _generated(self, function: Any, batch_size: int) -> GeneratorRows:
        return GeneratorRows(function, batch_size, self.input_dim, self.output_dim)

    def _check_reconstructs(self, outputs):
        if outputs is None and self.input_dim != self.output_dim:
            raise ValueError(
                f"outputs may be left out where they are the inputs; received none, and input_dim {self.input_dim} and "
                f"output_dim {self.output_dim}"
            )

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        validation_data: Any = None,
        callbacks: Any = None,
        shuffle: bool = True,
        **options: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does, on lists of arrays.

        What is trained on in an epoch, and what is drawn in it, follows from the number of the epoch: a run that
        `keras.callbacks.BackupAndRestore` resumes is the run that was not interrupted.

        Args:
            x, y: inputs and outputs, as for `pairs`.
            batch_size: rows of a batch; by default 32.
            epochs, callbacks: as in Keras.
            validation_data: inputs, or a pair of inputs and outputs.
            shuffle: whether each epoch has another order.
            **options: as in Keras.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names.
        """
        pairs = self.pairs(x, y, batch_size, shuffle)
        if not self.adapted:
            self._learn(pairs.inputs, pairs.inputs if pairs.outputs is None else pairs.outputs)
        order = _Order(pairs, self.seed)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(order)
        else:
            callbacks = [*_listed(callbacks), order]
        held = None if validation_data is None else self._validation(validation_data, batch_size)
        return super().fit(pairs, epochs=epochs, validation_data=held, callbacks=callbacks, shuffle=False, **options)

    def _validation(self, data, batch_size):
        given = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
        return self.pairs(*given, batch_size, shuffle=False)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **options: Any) -> Any:
        """Loss and metrics as `keras.Model.evaluate` gives them, of lists of arrays, decoded without teacher forcing.

        Args:
            x, y: inputs and outputs, as for `pairs`.
            batch_size: rows of a batch; by default 32.
            **options: as in Keras.
        """
        self._check_adapted("evaluate")
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
        if isinstance(train_generator, bool):  # on torch a model is a module, whose method of this name sets its mode
            return super().train(train_generator)
        steps, every = as_size("n_iterations", n_iterations), as_size("display_step", display_step)
        size = as_size("batch_size", batch_size)
        given, held = self._generated(train_generator, size), None
        if valid_generator is not None:
            rows = self._generated(valid_generator, size).one_pass()
            self._check_reconstructs(rows[1])
            held = Pairs(*rows, size, shuffle=False, dtype=self.data_dtype)
        if not self.adapted:
            first = joined([given.call()[:2] for _ in range(min(_FIRST, steps))])
            self._check_reconstructs(first[1])
            self._learn(first[0], first[0] if first[1] is None else first[1])
        every = min(every, steps)
        drawn = Drawn(given, every, size, self.data_dtype, self._check_reconstructs)
        callbacks = [*_listed(options.pop("callbacks", None)), _StopAfter(steps)]
        # An epoch of Keras's is what is shown once.
        epochs = -(-steps // every)
        return super().fit(drawn, epochs=epochs, validation_data=held, shuffle=False, callbacks=callbacks, **options)


def _listed(callbacks):
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]


class _StopAfter(keras.callbacks.Callback):
    """Ends training after a number of batches."""

    def __init__(self, steps):
        super().__init__()
        self._left = steps

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left <= 0:
            self.model.stop_training = True


class _Order(keras.callbacks.Callback):
    """Makes what an epoch is trained on, and what is drawn at random in it, a function of the epoch's number.

    Random generators are no weights, and so in no checkpoint; with this a run that goes on from one is as it was.
    """

    def __init__(self, pairs, seed):
        super().__init__()
        self._pairs, self._seed = pairs, seed

    def on_epoch_begin(self, epoch, logs=None):
        self._pairs.epoch = epoch
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            words = np.random.SeedSequence([self._seed & 0xFFFFFFFF, epoch, number]).generate_state(2)
            state.assign(words.astype(keras.backend.standardize_dtype(state.dtype)))
