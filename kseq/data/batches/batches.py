"""Padded batches of a store: a `keras.utils.PyDataset` that follows a plan and can be resumed."""

import collections
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from kseq.arguments import as_integer
from kseq.masks import lengths_to_mask

from ..errors import EmptyStoreError, StateError
from ..store.protocol import Records
from .ahead import Ahead
from .assembler import Assembler
from .bounds import bounds_of
from .epoch_report import EpochReport
from .epochs import Epochs
from .keras_pass import KerasDataset
from .layout import BatchLayout
from .lengths import RowLengths
from .options import LengthRange, Options, PadTo, Ratios
from .plan import Settings, record_ids
from .structure import Fields

_STATE_FORMAT = 1
_HASH_DIGITS = 8


class Batches(KerasDataset):
    """Batches of a store: for `model.fit`, and an iterator over the rest of the epoch.

    A batch is `(inputs,)`, `(inputs, targets)` or `(inputs, targets, sample_weights)`. Every record comes once an
    epoch; which records make which batch is a pure function of store, arguments, seed and epoch. A sequence that is an
    input is a `kseq.Sequence`: values [B, T, ...] and a bool mask [B, T], True = valid. A sequence that is a target
    is padded and weighted by its mask, so that a loss is the mean over its valid steps. So are metrics if the model's
    output carries a mask, or as `weighted_metrics` of `compile`. Made by `store.batches(...)`.

    Args:
        store: a `Store`.
        batch_size: rows of every batch; or a dict of padded lengths to the rows of batches of that length, which are
            then filled as those of `max_tokens` are.
        max_tokens: instead of it, the most cells (rows times padded length) of a batch. Batches that are not full
            are filled with rows of no weight.
        inputs: a field, a list of fields or a dict of names to fields, which the inputs then are; by default the main
            sequence. A sequence may be shifted: `kseq.data.shift("tokens", 1)`.
        targets: the same for targets.
        sample_weights: a field of numbers, one a record, that weighs it.
        masks: "sequence" for inputs that are a `Sequence`; "inputs" for a list that holds each sequence's mask after
            its values (a dict has it under `<name>_mask`); "lengths" for its length there, int32 [B] (under
            `<name>_lengths`); None for values alone.
        shuffle: True, a new permutation every epoch; "block", of blocks of records that lie together, for stores that
            are cold, remote or huge; False, in order.
        seed: of the permutations.
        bucket: whether records of similar length share batches; by default if they are shuffled.
        pad_to: the length to pad to: by default one of `max_shapes` that are chosen from the lengths; an integer; a
            list of them; "max", the longest of each batch (any number of shapes, each of which jax compiles anew);
            or a dict of these for several fields.
        max_shapes: how many padded lengths are chosen. By default as many as save what compiling them costs, at most
            16: each must save 50,000 padded steps an epoch, and 1 % of all.
        pad_value: number to pad with, or a dict of numbers for fields; also stands for a missing value of an optional
            field that is no sequence.
        side: "right" pads after a sequence, "left" before it.
        multiple_of: round padded lengths up to a multiple of this.
        truncate: what to do with sequences longer than the last padded length: None refuses them, "left" drops their
            beginning, "right" their end.
        bos: a value to put before every leading sequence, or a dict of them for fields.
        eos: a value to append, likewise.
        drop_remainder: drop the last batch if it is smaller; by default it is filled with rows of no weight (its first
            record again), and all batches have sample weights. Only `fit`, `evaluate` and `predict` are given it as
            it is, where hosts do not share it.
        length_range: pair (least, greatest) of lengths to take, or a function of the epoch that gives one: a
            curriculum.
        length_schedule: instead of it, a function of the number of batches that came before the epoch.
        pack: put several records into every row, of the length `pad_to`; inputs are then a dict, with `segment_ids`
            (from 1; 0 is padding) and `positions`, int32 [B, T].
        model: a layer or model: its output masks weigh sequences that are targets, which are padded to its output.
        target_alignment: "frames" if a sequence that is a target has a step for each output of the model; "sequence" if
            not (CTC): the target is then a dict of `labels` [B, L], `label_lengths` [B], `output_mask` [B, U] and
            `output_lengths` [B], for a `compute_loss` of your own.
        length_ratios: for sequences beside the leading one (the main sequence if it is an input, else the first input
            that is one) their padded length as a ratio of its; chosen from the lengths if not given. A record that is
            longer is padded further in all its sequences.
        scale_weights: whether the weights of a target that is a sequence make up for padded cells. Keras divides a loss
            by the steps of its own mask, if the model's output carries one, and otherwise by all cells. By default as
            the model needs it that `fit` or `evaluate` trains or tests; for your own loops True if it is given no
            masks (`masks=None`). False if the loss is summed.
        window: batches among which records are sorted by length.
        block_size: records of a block, a multiple of the batch size; by default about 1024.
        blocks_in_flight: blocks whose records are mixed; 1 keeps the order within a block.
        prefetch: batches that a thread makes together while those before them are used: worth it where batches take
            long, with texts or cold or remote files.

    Raises:
        EmptyStoreError: a store without records.
        SchemaError: fields that do not exist or do not fit.
        ValueError: arguments that contradict each other.

    Example:
        >>> import tempfile
        >>> from kseq.data import Writer, open
        >>> path = tempfile.mkdtemp() + "/store"
        >>> with Writer(path, {"tokens": ("int32", (None,)), "label": "int32"}) as writer:
        ...     for length in (3, 1, 2, 2):
        ...         _ = writer.write({"tokens": list(range(length)), "label": length})
        >>> batches = open(path).batches(batch_size=2, targets="label", shuffle=False, pad_to=3)
        >>> for inputs, targets in batches:
        ...     print(inputs.values.tolist(), targets.tolist())
        [[0, 1, 2], [0, 0, 0]] [3, 1]
        [[0, 1, 0], [0, 1, 0]] [2, 2]
    """

    def __init__(
        self,
        store: Records,
        *,
        batch_size: int | dict[int, int] | None = None,
        max_tokens: int | None = None,
        inputs: Fields | None = None,
        targets: Fields | None = None,
        sample_weights: str | None = None,
        masks: Literal["sequence", "inputs", "lengths"] | None = "sequence",
        shuffle: bool | Literal["block"] = True,
        seed: int = 0,
        bucket: bool | None = None,
        pad_to: PadTo | None = None,
        max_shapes: int | None = None,
        pad_value: Any = 0,
        side: Literal["right", "left"] = "right",
        multiple_of: int | None = None,
        truncate: Literal["left", "right"] | None = None,
        bos: Any = None,
        eos: Any = None,
        drop_remainder: bool = False,
        length_range: LengthRange | Callable[[int], LengthRange] | None = None,
        length_schedule: Callable[[int], LengthRange] | None = None,
        pack: bool = False,
        model: Any = None,
        target_alignment: Literal["frames", "sequence"] = "frames",
        length_ratios: Ratios | None = None,
        scale_weights: bool | None = None,
        window: int = 256,
        block_size: int | None = None,
        blocks_in_flight: int = 64,
        prefetch: int = 0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "store", "__class__")}
        super().__init__()
        if len(store) == 0:
            raise EmptyStoreError("a store without records has no batches", store.paths[0])
        self.store: Records = store
        self._given, self._shard = given, (0, 1)
        self._options = options = Options.of(given)
        self._layout = BatchLayout(store, options)
        self._lengths = RowLengths(self._layout, options)
        settings = Settings.of(options, self._layout, bounds_of(options, self._layout, self._lengths))
        self._epochs = Epochs(store, settings, self._lengths, options)
        # The structure of a batch must not differ from one to the next.
        self._assembler = Assembler(self._layout, self._lengths, options, self._epochs.fill_rows)
        self._begin((0, 0))

    # What a batch is.

    def steps(self, epoch: int) -> int:
        """Batches of any epoch."""
        return self._epochs.steps(epoch)

    @property
    def steps_vary(self) -> bool:
        """Whether epochs may differ in how many batches they have."""
        return self._epochs.vary

    def batch(self, index: int, epoch: int | None = None) -> tuple[Any, ...]:
        """The batch at a place of an epoch, by default of this one, whatever was asked for before."""
        epoch = self.epoch if epoch is None else as_integer("epoch", epoch, 0)
        return self._assembler.batch(self._epochs.plan(epoch).rows(as_integer("index", index)), self._shard)

    def records(self, index: int, epoch: int | None = None) -> NDArray[np.int64]:
        """The numbers of the records in a batch, int64; rows that fill it up are left out."""
        return record_ids(self._epochs.plan(self.epoch if epoch is None else epoch).rows(index)).copy()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rest of the epoch; the next iteration is the next epoch.

        Threads that iterate at the same time share the batches: each comes once.
        """
        cursor, epoch, ahead, take = self.cursor, self.epoch, self._ahead, _none_left
        window, following = iter(()), -1
        while True:
            try:
                index = take()
            except IndexError:
                stretch = cursor.stretch(epoch)
                if stretch is None:
                    return
                take = stretch.popleft
                continue
            try:
                if ahead:
                    batch = self._at(epoch, index, self._assembler.own)
                else:
                    batch = next(window, None) if index == following else None
                    if batch is None:
                        first, rows = self._epochs.plan(epoch).window(index)
                        window = self._assembler.batches(rows[index - first :], self._shard)
                        batch = next(window)
            except Exception:
                cursor.give_back((epoch, index))
                raise
            following = index + 1
            yield batch

    # Where the reading stands.

    def state(self) -> dict[str, Any]:
        """Where the reading stands, as a small dict of JSON values, for `restore`.

        Within `fit` Keras may ask for batches ahead of their use: `BackupAndRestore` counts those that were used.

        Example:
            >>> state = batches.state()  # doctest: +SKIP
            >>> batches.restore(state)  # doctest: +SKIP
        """
        store, plan = self._hashes()
        epoch, batch = self.cursor.place
        return {"format": _STATE_FORMAT, "store": store, "plan": plan, "epoch": epoch, "batch": batch}

    def advance(self, state: dict[str, Any], used: int) -> dict[str, Any]:
        """The state `used` batches after another."""
        epoch, batch = self.cursor.after((state["epoch"], state["batch"]), used)
        return state | {"epoch": epoch, "batch": batch}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, on any number of hosts.

        The first epoch of `fit`, and the first iteration, are then the rest of the epoch.

        Raises:
            StateError: a state of another store or plan, or none at all.
        """
        if not isinstance(state, dict) or set(state) != {"format", "store", "plan", "epoch", "batch"}:
            raise StateError(f"a state must be what state() gives; received {state!r:.200}")
        store, plan = self._hashes()
        for what, value in {"format": _STATE_FORMAT, "store": store, "plan": plan}.items():
            if state[what] != value:
                raise StateError(f"the state is of another {what}: it must have {value!r}; received {state[what]!r}")
        epoch, batch = as_integer("epoch", state["epoch"], 0), as_integer("batch", state["batch"], 0)
        if batch >= self.steps(epoch):
            raise StateError(f"batch must be below {self.steps(epoch)}; received {batch}")
        self.place = epoch, batch

    def shard(self, index: int, count: int) -> "Batches":
        """The part of every batch that host `index` of `count` takes: rows `index * B / count` and on.

        All hosts follow one plan, so that their shapes agree and nothing is read twice. Under `keras.distribution`
        set `auto_shard_dataset=False`.

        Raises:
            ValueError: a batch size that `count` does not divide.
        """
        index, count = as_integer("index", index, 0), as_integer("count", count, 1)
        if index >= count:
            raise ValueError(f"index must be below count, {count}; received {index}")
        sizes = self._sizes()
        if any(size % count for size in sizes):
            raise ValueError(f"rows of a batch must be a multiple of {count}, the hosts; received {sorted(sizes)}")
        other = self._copy()
        other._shard = (index, count)
        return other

    def report(self) -> EpochReport:
        """What an epoch looks like: steps, shapes, and the share of cells that hold data."""
        plan, shapes = self._epochs.plan(self.epoch), collections.Counter()
        useful = cells = records = 0
        for index in range(len(plan)):
            rows = plan.rows(index)
            lengths, bound = self._row_lengths(rows)
            shapes[rows.size, bound] += 1
            useful, cells = useful + int(lengths.sum()), cells + rows.size * bound
            records += len(lengths)
        return EpochReport(self.epoch, len(plan), records, plan.count - records, useful, cells, dict(shapes))

    def predict(self, model: Any, *, unpad: bool = False) -> Any:
        """What a model predicts for each record of the epoch, in the order of the store.

        `model.predict(batches)` gives a row for each record too (but with `max_tokens` where there are targets, whose
        batches are filled), in the order of the plan, and only if all outputs are of one length.

        Args:
            model: a model of the inputs.
            unpad: whether outputs are sequences, of which each record keeps the valid steps.

        Returns:
            As the model's outputs, for each an array [N, ...], shorter ones padded with zeros; with `unpad` a list of
            arrays [U, ...].

        Raises:
            ValueError: batches that leave out records, or pack or share them.
        """
        from .predict import predict

        return predict(self, model, unpad)

    def check_whole_rows(self) -> None:
        """Refuse batches that do not hold every record of the epoch in a row of its own."""
        wrong = {name: getattr(self._options, name) for name in ("drop_remainder", "pack")}
        wrong["shard"] = self._shard[1] > 1
        if any(wrong.values()):
            raise ValueError(f"every record needs a row; received {', '.join(name for name in wrong if wrong[name])}")

    def inputs_of(self, index: int, epoch: int) -> tuple[Any, NDArray[np.bool_]]:
        """A batch's inputs, and the mask of the leading sequence."""
        rows = self._epochs.plan(epoch).rows(index)
        mask = lengths_to_mask(*self._row_lengths(rows))
        return self._assembler.batch(rows, self._shard)[0], mask[:, ::-1] if self._options.side == "left" else mask

    # Feeds of other libraries.

    def to_torch(self) -> Any:
        """A `torch.utils.data.IterableDataset` of batches of tensors, for `DataLoader(..., batch_size=None)`."""
        from .feeds import to_torch

        return to_torch(self)

    def to_tf(self) -> Any:
        """A `tf.data.Dataset` whose elements are batches, for the tensorflow backend."""
        from .feeds import to_tf

        return to_tf(self)

    def to_grain(self, epochs: int = 1) -> Any:
        """A `grain.MapDataset` whose elements are batches, of this epoch and those after it."""
        from .feeds import to_grain

        return to_grain(self, epochs)

    # The inside.

    def _row_lengths(self, rows):
        """Lengths of the leading sequence, and what they are padded to."""
        leader = self._layout.leader
        lengths = np.zeros(rows.used, np.int64) if leader is None else self._lengths.of_leader(record_ids(rows))
        return lengths, rows.bound if rows.bound >= 0 else int(lengths.max(initial=0))

    def _sizes(self):
        if self._options.batch_size is not None:
            return {self._options.batch_size}
        plan = self._epochs.plan(self.epoch)
        return {plan.rows(i).size for i in range(len(plan))}

    def _hashes(self):
        plan = json.dumps(self._epochs.describe())
        return self.store.content_hash[:_HASH_DIGITS], xxhash.xxh3_64_hexdigest(plan.encode())[:_HASH_DIGITS]

    def _get(self, epoch, index):
        """The batch at a place, for Keras."""
        return self._at(epoch, index, self._model.reader)

    def _at(self, epoch, index, reader):
        batch = None if self._ahead is None else self._ahead.get(epoch, index, reader)
        return batch or self._assembler.batch(self._epochs.plan(epoch).rows(index), self._shard, reader)

    def _make(self, epoch, first, count, reader):
        plan = self._epochs.plan(epoch)
        return [self._assembler.batch(plan.rows(index), self._shard, reader) for index in range(first, first + count)]

    def _other_length(self):
        """Batch 1, padded to another length than batch 0: what both share Keras on tensorflow takes for fixed."""
        plan = self._epochs.plan(self.epoch)
        rows, bound = plan.rows(1), plan.rows(0).bound
        if rows.bound == bound:
            rows = rows._replace(bound=self._epochs.other_bound(bound))
        return self._assembler.batch(rows, self._shard, self._model.reader)

    def _begin(self, place):
        super()._begin(place)
        count = self._options.prefetch
        self._ahead = Ahead(self._make, self.steps, count) if count else None

    def _copy(self):
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other._begin(self.place)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.__class__, self.store, self._given, self._shard, self.place)


_none_left = collections.deque().popleft


def _remake(kind, store, given, shard, place):
    batches = kind(store, **given)
    batches._shard = shard
    batches._begin(place)
    return batches
