"""A callback that backs up training with the place in the data, so that a run goes on exactly where it was."""

import json
import pathlib
import shutil
from typing import Any, Literal

import keras

from ...annotations import AnyPath
from ..store.aside import publish
from .batches import Batches


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """Back up weights, optimizer, epoch, random states and place in the data; go on there after an interruption.

    Keras's own `BackupAndRestore` restores weights and epoch and begins the epoch's data anew. With this one every
    batch of the epoch comes once, over the interruption, in the order of the plan. A backup is complete or not there:
    it is written aside and renamed.

    Args:
        backup_dir: folder of the backup.
        batches: the `Batches` that `fit` is given.
        save_freq: "epoch", or the number of batches after which to save.
        delete_checkpoint: whether the backup is removed when training ends well.

    Raises:
        StateError: on restoring, batches of another store or plan.

    Example:
        >>> backup = BackupAndRestore("backup", batches, save_freq=100)  # doctest: +SKIP
        >>> model.fit(batches, epochs=10, callbacks=[backup])  # doctest: +SKIP
    """

    def __init__(
        self,
        backup_dir: AnyPath,
        batches: Batches,
        save_freq: Literal["epoch"] | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        if not isinstance(batches, Batches):
            raise TypeError(f"batches must be those of a store; received {type(batches).__name__}")
        self._root = pathlib.Path(backup_dir)
        # Keras reads the weights and the epoch from the folder that it is told.
        super().__init__(str(self._root / "current"), save_freq=save_freq, delete_checkpoint=False)
        self._remove_at_end = delete_checkpoint
        self._batches, self._since, self._epoch = batches, 0, 0
        self._state: dict[str, Any] = {}  # the last known place
        self._used = 0  # the batches trained on since
        self._torch = []  # states of torch's generators after the last step

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        current, previous = self._root / "current", self._root / "previous"
        if not current.exists() and previous.exists():
            previous.rename(current)  # killed between the two renames of a save
        super().on_train_begin(logs)
        if current.exists():
            saved = json.loads((current / "data_state.json").read_text())
            state = saved["data"]
            for variable, value in zip(_seeds(self.model), saved["seeds"], strict=True):
                variable.assign(value)
            self._torch = [bytearray.fromhex(digits) for digits in saved["torch"]]
            self._batches.restore(state)
        self._state = self._batches.state()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._epoch, self._last = epoch, -1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._last < 0 and self._torch:
            # torch's loaders draw from its generator where an epoch begins, which an interruption must not change.
            _set_torch_states(self._torch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if keras.backend.backend() == "torch":
            self._torch = _torch_states()
        steps = batch - self._last  # several, with `steps_per_execution`
        self._last = batch
        self._since, self._used = self._since + steps, self._used + steps
        if self.save_freq != "epoch" and self.save_freq and self._since >= self.save_freq:
            self.save()

    def save(self) -> None:
        """Back up now, which must be the end of a batch or of an epoch."""
        self._since = 0
        self._advance()
        self._save(self._epoch + (self._state["batch"] == 0 or self._last + 1 >= self.params["steps"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.save_freq == "epoch":
            self.save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        if self._remove_at_end:
            shutil.rmtree(self._root, ignore_errors=True)

    def _advance(self):
        # Keras counts steps that the data no longer had (`steps_per_execution`), and asks for batches ahead of their
        # use: what was trained on is the less of both.
        counted, asked = self._batches.advance(self._state, self._used), self._batches.state()
        self._state, self._used = min(counted, asked, key=lambda state: (state["epoch"], state["batch"])), 0

    def _save(self, epoch):
        following, current, previous = (self._root / name for name in ("next", "current", "previous"))
        shutil.rmtree(following, ignore_errors=True)
        following.mkdir(parents=True)
        self.model.save_weights(following / "latest.weights.h5")
        # The names of the files are those that Keras's callback reads.
        (following / "training_metadata.json").write_text(json.dumps({"epoch": epoch, "batch": self._state["batch"]}))
        seeds = [keras.ops.convert_to_numpy(variable).tolist() for variable in _seeds(self.model)]
        (following / "data_state.json").write_text(
            json.dumps({"data": self._state, "seeds": seeds, "torch": [each.hex() for each in self._torch]})
        )
        shutil.rmtree(previous, ignore_errors=True)
        if current.exists():
            current.rename(previous)
        publish(following, current)


def _seeds(model):
    """The states of the model's random generators, which are not among its weights."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _torch_states():
    """The states of torch's own generators, from which Keras's dropout on torch draws."""
    import torch

    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
    return [bytearray(state.numpy().tobytes()) for state in states]


def _set_torch_states(states):
    import torch

    found = [torch.frombuffer(state, dtype=torch.uint8) for state in states]
    torch.set_rng_state(found[0])
    if len(found) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(found[1:])
