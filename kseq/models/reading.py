"""Lists of arrays through a model: codes, what codes say, predictions, and how badly a sequence is predicted."""

from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from ..arguments import as_size, check_choice
from .generators import GeneratorRows
from .pairs import SequencePairs, in_batches, lengths, padded
from .rows import Rows, checked, checked_pairs, is_store, of_store

# Steps beyond the longest known output, as a multiple of it, after which a prediction is cut.
_GUARD = 2


class AnomalyScores(NamedTuple):
    """Squared errors of a reconstruction at the true length, in the scale of the data: 1 is what the mean would have.

    Attributes:
        sequences: the mean over the steps of each sequence, float64 [N].
        steps: for each sequence that over the channels of each step, a list of arrays [T_i].
    """

    sequences: NDArray[np.float64]
    steps: list[NDArray[np.float64]]


class SequenceReader(keras.Model):
    """A Keras model that gives lists of arrays for lists of arrays; see `SequenceAutoencoder`."""

    input_dim: int
    output_dim: int
    latent_dim: int
    max_length: int | None
    bottleneck: bool
    encoder: Any
    decoder: Any
    stop: Any
    output_scaling: Any

    @property
    def adapted(self) -> bool:
        """Whether the scale of the data is known."""
        return float(keras.ops.convert_to_numpy(self.stop.longest)) > 0

    @property
    def data_dtype(self) -> str:
        """The dtype in which data is given to the model."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    @property
    def longest(self) -> Any:
        """The longest sequence that is predicted, a number or a tensor."""
        return _GUARD * self.stop.longest if self.max_length is None else self.max_length

    def encode(self, x: Any, layers: Literal["last", "all"] = "last", batch_size: int | None = None) -> Any:
        """Codes of sequences.

        Args:
            x: a list of arrays [T, C], or what else `fit` takes as inputs.
            layers: "last" for the codes, an array [N, latent_dim]; "all" for the last hidden states of every layer of
                the encoder, a list of arrays [N, units].
            batch_size: rows that are computed at once; by default 32.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names, or a model that has not been
                fitted.
        """
        check_choice("layers", layers, ("last", "all"))
        found = self._read(self._inputs(x, "encode"), batch_size)
        return found["code"] if layers == "last" else list(found["states"])

    def decode(self, codes: Any, max_length: int | None = None, batch_size: int | None = None) -> Rows:
        """The sequences that codes say, each of the length that its code says.

        Args:
            codes: array [N, latent_dim].
            max_length: the longest sequence that is made; by default that of the model.
            batch_size: rows that are computed at once; by default 32.

        Raises:
            ValueError: codes of another shape or that are not finite, a model that has not been fitted, or one that
                needs the inputs (`bottleneck=False`).
        """
        self._check_adapted("decode")
        if not self.bottleneck:
            raise ValueError(
                "decode needs a model whose decoder knows the code alone; this one (bottleneck=False) attends to the "
                "inputs: use predict"
            )
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim or codes.dtype.kind not in "fiu":
            raise ValueError(
                f"codes must be numbers of shape [N, {self.latent_dim}]; received {codes.dtype} of {codes.shape}"
            )
        with np.errstate(over="ignore"):
            given, codes = codes, codes.astype(self.data_dtype)
        if not np.isfinite(codes).all():
            row = np.flatnonzero(~np.isfinite(codes).all(axis=1))[0]
            raise ValueError(f"codes must be finite {self.data_dtype}; received codes[{row}] = {given[row]}")
        return self._decode(codes, None, max_length, batch_size)

    def predict(
        self, x: Any, batch_size: int | None = None, max_length: int | None = None, verbose: Any = 0, **options: Any
    ) -> Rows:
        """The outputs for sequences, each of the length that is predicted.

        Args:
            x: a list of arrays [T, C], or what else `fit` takes as inputs.
            batch_size: rows that are computed at once; by default 32.
            max_length: the longest output that is made; by default that of the model.
            verbose: 0: there is nothing to show.

        Returns:
            A list of arrays [U_i, D].

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names, or a model that has not been
                fitted.
        """
        if options:
            raise TypeError(f"predict takes x, batch_size and max_length; received {', '.join(options)}")
        rows = self._inputs(x, "predict")
        found = self._read(rows, batch_size)
        return self._decode(found["code"], None if self.bottleneck else rows, max_length, batch_size)

    def anomaly_score(self, x: Any, y: Any = None, batch_size: int | None = None) -> AnomalyScores:
        """How badly sequences are predicted, each and at every step: the squared error at the true length.

        Args:
            x: inputs, as for `fit`.
            y: outputs, by default the inputs.
            batch_size: rows that are computed at once; by default 32.

        Raises:
            TypeError, ValueError: what is wrong with a sequence, which the message names, or a model that has not been
                fitted.

        Example:
            >>> scores = ae.anomaly_score(rows)  # doctest: +SKIP
            >>> scores.sequences.argmax(), scores.steps[0].argmax()  # doctest: +SKIP
        """
        self._check_adapted("anomaly_score")
        rows, outputs = self._rows_of(x, y)
        true = rows if outputs is None else outputs
        codes = self._read(rows, batch_size)["code"]
        made = self._decode(codes, None if self.bottleneck else rows, None, batch_size, lengths(true))
        deviation = np.asarray(keras.ops.convert_to_numpy(self.output_scaling.deviation), np.float64)
        pairs = zip(true, made, strict=True)
        steps = [np.mean(((np.asarray(a, np.float64) - b) / deviation) ** 2, axis=1) for a, b in pairs]
        return AnomalyScores(np.array([row.mean() for row in steps]), steps)

    # The inside.

    def _check_adapted(self, what):
        if not self.adapted:
            raise ValueError(
                f"{what} needs a model that knows its data; received one that has not been fitted: call fit, train or "
                "adapt first, or load one that was saved"
            )

    def _inputs(self, x, what):
        self._check_adapted(what)
        if isinstance(x, SequencePairs):
            return x.inputs
        if callable(x):
            return self._generated(x).one_pass()[0]
        x = of_store(x, None, "inputs")[0] if is_store(x) else x
        return checked(x, "inputs", self.input_dim, self.data_dtype)

    def _rows_of(self, x, y, batch_size=32, field=None, prefix="") -> tuple[Rows, Rows | None]:
        """Inputs, and outputs or `None` where these are the inputs, of all that `fit` takes."""
        if isinstance(x, SequencePairs):
            return x.inputs, x.outputs
        if callable(x):
            if y is not None:
                raise ValueError("a generator gives outputs itself; received others as well")
            return self._generated(x, batch_size).one_pass()
        if is_store(x):
            inputs, name = of_store(x, field, f"{prefix}inputs")
            y = None if y == name else of_store(x, y, f"{prefix}outputs")[0] if isinstance(y, str) else y
            x = inputs
        return checked_pairs(x, y, self._dims, self.data_dtype, prefix)

    @property
    def _dims(self):
        return self.input_dim, self.output_dim

    def _generated(self, function, batch_size=32):
        return GeneratorRows(function, batch_size, self._dims, self.data_dtype)

    def _read(self, rows, batch_size):
        """What the encoder makes of rows: `code` and `states`."""
        size = 32 if batch_size is None else as_size("batch_size", batch_size)
        many, found, order = lengths(rows), [], []
        for numbers, time, _ in in_batches(many, many, size):
            batch = {"inputs": padded(rows, numbers, time, size, self.data_dtype)}
            made = self.predict_on_batch(batch)
            count = len(numbers)
            found.append(keras.tree.map_structure(lambda part, n=count: np.asarray(part)[:n], made))
            order.append(numbers)
        back = np.argsort(np.concatenate(order))
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts)[back], *found)

    def _lengths_of(self, codes, size):
        """The lengths that codes say, unlimited."""
        found = []
        for at in range(0, len(codes), size):
            made = self.predict_on_batch({"code": filled(codes[at : at + size], size)})
            found.append(np.asarray(made["location"])[: len(codes) - at])
        return np.concatenate([np.zeros(0), *found])

    def _decode(self, codes, rows, max_length, batch_size, many=None):
        """What codes say; with rows where the decoder attends to them, and of given lengths where they are known."""
        size = 32 if batch_size is None else as_size("batch_size", batch_size)
        longest = int(keras.ops.convert_to_numpy(self.longest))
        limit = longest if max_length is None else as_size("max_length", max_length)
        if many is None:
            told = self._lengths_of(codes, size)
            # Of a code beyond all numbers a length may be none.
            many = np.clip(np.rint(np.where(np.isnan(told), limit, told)), 1, limit).astype(np.int64)
        made: list[Any] = [None] * len(codes)
        if not len(codes):
            return made
        read = many if rows is None else lengths(rows)
        for numbers, time, steps in in_batches(read, many, size):
            batch = {"lengths": filled(many[numbers].astype("int32"), size), "frame": np.zeros(steps, "float32")}
            if rows is None:
                batch["code"] = filled(codes[numbers], size)
            else:
                batch["inputs"] = padded(rows, numbers, time, size, self.data_dtype)
            values = np.asarray(self.predict_on_batch(batch)["outputs"])
            for place, number in enumerate(numbers):
                made[number] = values[place, : many[number]].copy()
        return made


def filled(rows: Any, count: int) -> Any:
    """Rows of an array, and zeros up to a count."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
