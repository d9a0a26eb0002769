"""What `kseq train` sees to around `fit`: that data and model go together, and that an interruption loses nothing."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from ..annotations import AnyPath
from .arguments import CommandError, say

if TYPE_CHECKING:
    from ..data import BackupAndRestore, Batches


def check_data(model: Any, batches: Batches, path: AnyPath) -> None:
    """Compare a batch with the model before anything is trained.

    Args:
        model: the model.
        batches: `Batches`.
        path: of the store, for the message.

    Raises:
        CommandError: inputs of other shapes than the model takes, or targets of another length than it gives.
    """
    lengths = sorted({length for _, length in batches.report().shapes})
    inputs, targets = batches.batch(0)[:2]
    given, wanted = keras.tree.flatten(inputs), model.inputs
    for array, spec in zip(given, wanted, strict=True):
        name, shape = spec.name, tuple(spec.shape)
        if array.ndim != len(shape):
            raise CommandError(f"{path}: the model's input {name!r} has shape {shape}; received batches {array.shape}")
        if any(size not in (None, own) for size, own in zip(shape[2:], array.shape[2:], strict=True)):
            raise CommandError(
                f"{path}: the model's input {name!r} takes steps of shape {shape[2:]}; received {array.shape[2:]}"
            )
        if len(shape) > 1 and shape[1] is not None and lengths and lengths != [shape[1]]:
            raise CommandError(
                f"{path}: the model's input {name!r} takes {shape[1]} steps; received batches of {lengths}"
            )
    try:
        outputs = model.compute_output_spec(keras.tree.map_structure(_spec, inputs))
    except Exception as error:
        raise CommandError(f"{path}: the model does not take the data: {' '.join(str(error).split())}") from error
    for name, output, target in zip(
        model.output_names, keras.tree.flatten(outputs), keras.tree.flatten(targets), strict=False
    ):
        if target.ndim > 1 and len(output.shape) > 1 and output.shape[1] not in (None, target.shape[1]):
            raise CommandError(
                f"{path}: the model's output {name!r} has {output.shape[1]} steps for an input of "
                f"{given[0].shape[1:2]}; received a target of {target.shape[1]}"
            )


def _spec(array):
    return keras.KerasTensor(array.shape, array.dtype.name)


class Interruption(keras.callbacks.Callback):
    """Ends training at the end of the batch in which Ctrl-C was pressed, after a backup; at once the second time.

    Args:
        backup: a `BackupAndRestore`, or None.
    """

    def __init__(self, backup: BackupAndRestore | None) -> None:
        super().__init__()
        self._backup, self._asked = backup, False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within this context Ctrl-C is noted."""

        def note(number, frame):
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._asked:
            if self._backup is not None:
                self._backup.save()
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.on_train_batch_end(batch)


def fit(model: Any, data: Any, args: argparse.Namespace, interruption: Interruption, then: str, **options: Any) -> Any:
    """Train a model as the arguments of `kseq train` say, and give its history.

    Args:
        model: compiled.
        data: what `fit` takes.
        args: of the command.
        interruption: the last of the callbacks.
        then: what to do after an interruption, where there is a backup.
        options: of `fit`.

    Raises:
        KeyboardInterrupt: it was interrupted, which has been said.
    """
    try:
        with interruption.listening():
            # A bar needs a terminal, which moves the cursor; elsewhere a line an epoch is what there is to read.
            verbose = 0 if args.json else 1 if sys.stdout.isatty() else 2
            return model.fit(data, epochs=args.epochs, verbose=verbose, **options).history
    except KeyboardInterrupt:
        say(f"kseq train: interrupted; {then if args.backup else 'nothing is saved: --backup'}", file=sys.stderr)
        raise
