"""Padded batches of a store: a `keras.utils.PyDataset` that follows a plan and can be resumed."""

import collections
import concurrent.futures
import json
import threading

import keras
import numpy as np
import xxhash

from kseq.arguments import as_integer

from ..errors import EmptyStoreError, SchemaError, StateError
from .assembly import Assembly
from .bounds import choose_bounds
from .cursor import Cursor
from .epoch_report import EpochReport
from .keras_pass import KerasPass, shows_shapes
from .lengths import RowLengths
from .plan import EpochPlan, Settings, record_ids
from .weights import asking_model

_STATE_FORMAT = 1
_HASH_DIGITS = 8


class Batches(keras.utils.PyDataset):
    """Batches of a store: for `model.fit`, and an iterator over the rest of the epoch.

    A batch is `(inputs,)`, `(inputs, targets)` or `(inputs, targets, sample_weights)`. Every record comes once an
    epoch; which records make which batch is a pure function of store, arguments, seed and epoch. A sequence that is an
    input is a `kseq.Sequence`: values [B, T, ...] and a bool mask [B, T], True = valid. A sequence that is a target
    is padded and weighted by its mask, so that a loss is the mean over its valid steps. So are metrics if the model's
    output carries a mask, or as `weighted_metrics` of `compile`. Made by `store.batches(...)`.

    Args:
        store: a `Store`.
        batch_size: rows of every batch.
        max_tokens: instead of it, the most cells (rows times padded length) of a batch. Batches that are not full
            are filled with rows of no weight.
        inputs: a field, a list of fields or a dict of names to fields, which the inputs then are; by default the main
            sequence.
        targets: the same for targets.
        sample_weights: a field of numbers, one a record, that weighs it.
        masks: "sequence" for inputs that are a `Sequence`; "inputs" for a list that holds each sequence's mask after
            its values (a dict has it under `<name>_mask`); None for values alone.
        shuffle: True, a new permutation every epoch; "block", of blocks of records that lie together, for stores that
            are cold, remote or huge; False, in order.
        seed: of the permutations.
        bucket: whether records of similar length share batches; by default if they are shuffled.
        pad_to: the length to pad to: by default one of `max_shapes` that are chosen from the lengths; an integer; a
            list of them; "max", the longest of each batch (any number of shapes, each of which jax compiles anew);
            or a dict of these for several fields.
        max_shapes: how many padded lengths are chosen.
        pad_value: number to pad with, or a dict of numbers for fields; also stands for a missing value of an optional
            field that is no sequence.
        truncate: what to do with sequences longer than the last padded length: None refuses them, "left" drops their
            beginning, "right" their end.
        eos: a value to append to every main sequence, or a dict of them for fields.
        drop_remainder: drop the last batch if it is smaller; by default it is filled with rows of no weight (its first
            record again), and all batches have sample weights. Only `fit`, `evaluate` and `predict` are given it as
            it is, where hosts do not share it.
        length_range: pair (least, greatest) of lengths to take, or a function of the epoch that gives one: a
            curriculum.
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
        prefetch: batches that a thread prepares ahead.

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
        store,
        *,
        batch_size=None,
        max_tokens=None,
        inputs=None,
        targets=None,
        sample_weights=None,
        masks="sequence",
        shuffle=True,
        seed=0,
        bucket=None,
        pad_to=None,
        max_shapes=16,
        pad_value=0,
        truncate=None,
        eos=None,
        drop_remainder=False,
        length_range=None,
        pack=False,
        model=None,
        target_alignment="frames",
        length_ratios=None,
        scale_weights=None,
        window=256,
        block_size=None,
        blocks_in_flight=64,
        prefetch=0,
    ):
        self._options = {name: value for name, value in locals().items() if name not in ("self", "store", "__class__")}
        super().__init__()
        if len(store) == 0:
            raise EmptyStoreError("a store without records has no batches", store.paths[0])
        if (batch_size is None) == (max_tokens is None):
            raise ValueError(f"give one of batch_size and max_tokens; received {batch_size} and {max_tokens}")
        shuffle = _shuffle(shuffle)
        if pack and max_tokens is not None:
            raise ValueError("pack needs batch_size, the rows of a batch; received max_tokens")
        self.store, self._length_range = store, length_range
        self._assembly = Assembly(
            store,
            inputs,
            targets,
            sample_weights,
            masks,
            pad_to,
            pad_value,
            truncate,
            eos,
            pack,
            model,
            target_alignment,
            length_ratios,
            scale_weights,
        )
        self._lengths = RowLengths(store, self._assembly)
        leader = self._assembly.leader
        if leader is None and (bucket or max_tokens or pack or length_range is not None):
            raise SchemaError("bucket, max_tokens, pack and length_range need a sequence among inputs and targets")
        bucket = leader is not None and not pack and (shuffle is not False if bucket is None else bool(bucket))
        batch_size = None if batch_size is None else as_integer("batch_size", batch_size, 1)
        self._settings = Settings(
            batch_size=batch_size,
            max_tokens=None if max_tokens is None else as_integer("max_tokens", max_tokens, 1),
            shuffle=shuffle,
            bucket=bucket,
            seed=as_integer("seed", seed),
            window=as_integer("window", window, 1),
            block_size=_block_size(block_size, batch_size),
            blocks_in_flight=as_integer("blocks_in_flight", blocks_in_flight, 1),
            bounds=self._choose_bounds(pad_to, as_integer("max_shapes", max_shapes, 1), pack, max_tokens),
            drop_remainder=bool(drop_remainder),
            pack=bool(pack),
        )
        self._prefetch = as_integer("prefetch", prefetch, 0)
        self._shard = (0, 1)
        self._plans = collections.OrderedDict()
        self._start((0, 0))
        # The structure of a batch must not differ from one to the next. Without targets nothing could say to Keras that
        # a row is filled; with `max_tokens` the last batch of every window would be of a shape of its own.
        self._assembly.fills = max_tokens is not None and targets is not None
        self._assembly.weigh_rows = self._ever_filled()

    # What a batch is.

    def __len__(self):
        """Batches of the epoch."""
        return len(self._plan(self.epoch))

    def steps(self, epoch):
        """Batches of any epoch."""
        return len(self._plan(epoch))

    @property
    def steps_vary(self) -> bool:
        """Whether epochs may differ in how many batches they have."""
        return self._settings.max_tokens is not None or self._settings.pack or callable(self._length_range)

    @property
    def epoch(self) -> int:
        """The epoch that is read; may be set, to its beginning."""
        return self._cursor.place[0]

    @epoch.setter
    def epoch(self, epoch):
        self._go((as_integer("epoch", epoch, 0), 0))

    @property
    def place(self) -> tuple:
        """The epoch and the number of the batch that comes next; may be set."""
        return self._cursor.place

    @place.setter
    def place(self, place):
        epoch, batch = place
        self._go((as_integer("epoch", epoch, 0), as_integer("batch", batch, 0)))

    def take(self) -> tuple:
        """Go on by one batch: its place, for `batch`, which no other thread gets."""
        return self._cursor.take()

    def batch(self, index, epoch=None):
        """The batch at a place of an epoch, by default of this one, whatever was asked for before."""
        epoch = self.epoch if epoch is None else as_integer("epoch", epoch, 0)
        return self._assembly.batch(self._plan(epoch).rows(as_integer("index", index)), self._shard)

    def records(self, index, epoch=None):
        """The numbers of the records in a batch, int64; rows that fill it up are left out."""
        rows = self._plan(self.epoch if epoch is None else epoch).rows(index)
        return record_ids(rows).copy()

    def __iter__(self):
        """Iterate over the rest of the epoch; the next iteration is the next epoch.

        Threads that iterate at the same time share the batches: each comes once.
        """
        cursor, (epoch, _) = self._cursor, self._cursor.place
        window, following = iter(()), -1
        while (place := cursor.take(epoch)) is not None:
            index = place[1]
            try:
                if self._prefetch:
                    batch = self._get(*place)
                else:
                    batch = next(window, None) if index == following else None
                    if batch is None:
                        first, rows = self._plan(epoch).window(index)
                        window = self._assembly.batches(rows[index - first :], self._shard)
                        batch = next(window)
            except Exception:
                cursor.give_back(place)
                raise
            following = index + 1
            yield batch

    # What Keras asks for: see `keras_pass`.

    def __getitem__(self, index):
        """The batch at `index` of the epoch; within `fit`, `evaluate` and `predict` the next one (see `batch`)."""
        index = as_integer("a batch", index)
        place = self._keras.place(index)
        if place is not None:
            return self._get(*place, for_keras=True)
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"a batch must be in [-{count}, {count}); received {index}")
        if shows_shapes(index):
            return self._other_length()
        return self._get(self.epoch, index % count, for_keras=True)

    def _other_length(self):
        """Batch 1, padded to another length than batch 0: what both share Keras on tensorflow takes for fixed."""
        plan, bounds = self._plan(self.epoch), self._settings.bounds or ()
        rows = plan.rows(1)
        if len(bounds) > 1 and rows.bound == plan.rows(0).bound:
            rows = rows._replace(bound=next((bound for bound in bounds if bound > rows.bound), rows.bound + 1))
        return self._assembly.batch(rows, self._shard, for_keras=True)

    @property
    def num_batches(self):
        """Batches of the epoch, as a number that goes with the epoch. For Keras; use `len` or `steps`."""
        return self._keras.steps()

    def on_epoch_begin(self):
        """Called by Keras."""
        model = asking_model()
        if model is not None and self._assembly.suit(model, self._look):
            self._ahead.clear()
        self._keras.begin()

    def _look(self):
        with self._keras.aside():
            return self[0][0]

    # Keras's own workers: processes would each follow a plan of their own, and what threads have made ahead in the pass
    # in which Keras only looks it gives out in the next one.

    @property
    def workers(self):
        """For Keras, always 1. Setting it lets a thread of ours make as many batches ahead (see `prefetch`)."""
        return 1

    @workers.setter
    def workers(self, workers):
        workers = as_integer("workers", workers, 0)
        self._prefetch = workers if workers > 1 else self._prefetch

    @property
    def use_multiprocessing(self):
        """False: batches are made in this process."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value):
        if value:
            raise ValueError(
                "use_multiprocessing must be False: a process of its own would not know which batches others were "
                "given, and records would come twice or not at all; pass prefetch to batches() instead"
            )

    def on_epoch_end(self):
        """Called by Keras."""
        self._keras.end()

    # Where the reading stands.

    def state(self) -> dict:
        """Where the reading stands, as a small dict of JSON values, for `restore`.

        Within `fit` Keras may ask for batches ahead of their use: `BackupAndRestore` counts those that were used.

        Example:
            >>> state = batches.state()  # doctest: +SKIP
            >>> batches.restore(state)  # doctest: +SKIP
        """
        store, plan = self._hashes()
        epoch, batch = self._cursor.place
        return {"format": _STATE_FORMAT, "store": store, "plan": plan, "epoch": epoch, "batch": batch}

    def advance(self, state, used) -> dict:
        """The state `used` batches after another."""
        epoch, batch = self._cursor.after((state["epoch"], state["batch"]), used)
        return state | {"epoch": epoch, "batch": batch}

    def restore(self, state):
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
        self._go((epoch, batch))

    def shard(self, index, count) -> "Batches":
        """The part of every batch that host `index` of `count` takes: rows `index * B / count` and on.

        All hosts follow one plan, so that their shapes agree and nothing is read twice. Under `keras.distribution`
        set `auto_shard_dataset=False`.

        Raises:
            ValueError: a batch size that `count` does not divide.
        """
        index, count = as_integer("index", index, 0), as_integer("count", count, 1)
        if index >= count:
            raise ValueError(f"index must be below count, {count}; received {index}")
        sizes = {size for size, _ in self._shapes()}
        if any(size % count for size in sizes):
            raise ValueError(f"rows of a batch must be a multiple of {count}, the hosts; received {sorted(sizes)}")
        other = self._copy()
        other._shard = (index, count)
        return other

    def report(self) -> EpochReport:
        """What an epoch looks like: steps, shapes, and the share of cells that hold data."""
        plan, shapes = self._plan(self.epoch), collections.Counter()
        useful = cells = records = 0
        for index in range(len(plan)):
            rows = plan.rows(index)
            lengths = self._row_lengths(rows)
            bound = rows.bound if rows.bound >= 0 else int(lengths.max(initial=0))
            shapes[rows.size, bound] += 1
            useful, cells = useful + int(lengths.sum()), cells + rows.size * bound
            records += len(lengths)
        return EpochReport(self.epoch, len(plan), records, plan.count - records, useful, cells, dict(shapes))

    def _row_lengths(self, rows):
        if self._assembly.leader is None:
            return np.zeros(rows.used, np.int64)
        return self._lengths.of_leader(record_ids(rows))

    def predict(self, model, *, unpad=False):
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

    def check_whole_rows(self):
        """Refuse batches that do not hold every record of the epoch in a row of its own."""
        wrong = {"drop_remainder": self._settings.drop_remainder, "pack": self._settings.pack}
        wrong["shard"] = self._shard[1] > 1
        if any(wrong.values()):
            raise ValueError(f"every record needs a row; received {', '.join(name for name in wrong if wrong[name])}")

    def inputs_of(self, index, epoch):
        """A batch's inputs, the lengths of its records and the padded length."""
        rows = self._plan(epoch).rows(index)
        lengths = self._row_lengths(rows)
        padded = rows.bound if rows.bound >= 0 else int(lengths.max(initial=0))
        return self._assembly.batch(rows, self._shard)[0], lengths, padded

    # Feeds of other libraries.

    def to_torch(self):
        """A `torch.utils.data.IterableDataset` of batches of tensors, for `DataLoader(..., batch_size=None)`."""
        from .feeds import to_torch

        return to_torch(self)

    def to_tf(self):
        """A `tf.data.Dataset` whose elements are batches, for the tensorflow backend."""
        from .feeds import to_tf

        return to_tf(self)

    def to_grain(self, epochs=1):
        """A `grain.MapDataset` whose elements are batches, of this epoch and those after it."""
        from .feeds import to_grain

        return to_grain(self, epochs)

    # The inside.

    def _plan(self, epoch):
        plan = self._plans.get(epoch)
        if plan is not None:
            return plan
        with self._guard:
            plan = self._plans.get(epoch)
            if plan is None:
                records = self._population(epoch)
                count = records if isinstance(records, int) else len(records)
                plan = EpochPlan(self._settings, epoch, records, self._lengths.of) if count else ()
                if len(plan) == 0:
                    raise EmptyStoreError(
                        f"epoch {epoch} has no batches: {count} records make no full batch", self.store.paths[0]
                    )
                self._plans[epoch] = plan
                while len(self._plans) > 2:  # the one that ends and the one that begins
                    self._plans.popitem(last=False)
            return plan

    def _population(self, epoch):
        if self._length_range is None:
            return len(self.store)
        given = self._length_range(epoch) if callable(self._length_range) else self._length_range
        least, greatest = (as_integer("length_range", n, 0) for n in given)
        lengths = self._lengths.of_leader(None)
        return np.flatnonzero((lengths >= least) & (lengths <= greatest))

    def _choose_bounds(self, pad_to, max_shapes, pack, max_tokens):
        leader = self._assembly.leader
        if leader is None:
            return None
        given = pad_to.get(leader) if isinstance(pad_to, dict) else pad_to
        if given == "max":
            if pack:
                raise ValueError('pack needs one padded length; received pad_to="max"')
            return None
        if given is None:
            counts = self._lengths.counts()
            bounds = [int(np.flatnonzero(counts)[-1])] if pack else choose_bounds(counts, max_shapes).tolist()
            bounds = [max(bound, 1) for bound in bounds]
        else:
            bounds = [given] if not isinstance(given, (list, tuple)) else list(given)
            bounds = sorted({as_integer("pad_to", bound, 1) for bound in bounds})
            self._assembly.limit(bounds[-1], self._lengths)
        if pack and len(bounds) > 1:
            raise ValueError(f"pack needs one padded length; received {bounds}")
        if max_tokens is not None and bounds[-1] > max_tokens:
            raise ValueError(f"max_tokens must hold the longest row, {bounds[-1]}; received {max_tokens}")
        return tuple(dict.fromkeys(bounds))

    def _ever_filled(self):
        if self._settings.max_tokens is not None:
            return True
        if self._settings.drop_remainder:
            return False
        if self._length_range is not None or self._settings.pack:
            return True  # the number of rows may differ from epoch to epoch
        return len(self.store) % self._settings.batch_size != 0

    def _shapes(self):
        if self._settings.batch_size is not None:
            return {(self._settings.batch_size, None)}
        plan = self._plan(self.epoch)
        return {(plan.rows(i).size, plan.rows(i).bound) for i in range(len(plan))}

    def _hashes(self):
        settings = json.dumps(
            [*vars(self._settings).items(), _range_name(self._length_range), self._lengths.describe()]
        )
        return self.store.content_hash[:_HASH_DIGITS], xxhash.xxh3_64_hexdigest(settings.encode())[:_HASH_DIGITS]

    def _make(self, epoch, index, for_keras):
        return self._assembly.batch(self._plan(epoch).rows(index), self._shard, for_keras)

    def _get(self, epoch, index, for_keras=False):
        if not self._prefetch:
            return self._make(epoch, index, for_keras)
        if self._thread is None:
            self._thread = concurrent.futures.ThreadPoolExecutor(1, "kseq-batches")
        with self._guard:
            found = self._ahead.pop((epoch, index, for_keras), None)
            count = len(self._plan(epoch))
            for later in range(index + 1, min(index + 1 + self._prefetch, count)):
                place = epoch, later, for_keras
                if place not in self._ahead:
                    self._ahead[place] = self._thread.submit(self._make, *place)
            while len(self._ahead) > 2 * self._prefetch:  # what was asked for ahead and never came
                self._ahead.popitem(last=False)[1].cancel()
        return self._make(epoch, index, for_keras) if found is None else found.result()

    def _start(self, place):
        self._guard, self._thread, self._ahead = threading.RLock(), None, collections.OrderedDict()
        self._cursor = Cursor(self.steps, self._guard, place)
        self._keras = KerasPass(self._cursor, self._guard)

    def _go(self, place):
        with self._guard:
            self._cursor.place = place
            self._keras.leave()

    def _copy(self):
        other = self.__class__.__new__(self.__class__)
        vars(other).update(vars(self))
        other._plans = collections.OrderedDict()
        other._start(self._cursor.place)
        return other

    def __reduce__(self):
        return _remake, (self.__class__, self.store, self._options, self._shard, self._cursor.place)


def _remake(kind, store, options, shard, place):
    batches = kind(store, **options)
    batches._shard = shard
    batches._start(place)
    return batches


def _shuffle(shuffle):
    if isinstance(shuffle, str) and shuffle == "block":
        return shuffle
    if isinstance(shuffle, (bool, np.bool_, int, np.integer)) and shuffle in (0, 1):
        return bool(shuffle)
    raise ValueError(f'shuffle must be True, False or "block"; received {shuffle!r}')


def _block_size(block_size, batch_size):
    rows = batch_size or 64
    if block_size is None:
        return -(-1024 // rows) * rows
    block_size = as_integer("block_size", block_size, 1)
    if batch_size is not None and block_size % batch_size:
        raise ValueError(f"block_size must be a multiple of the batch size, {batch_size}; received {block_size}")
    return block_size


# Epochs at which a function of the epoch is compared with another: those that most runs have, and some far ones.
_PROBED = (*range(64), *(1 << power for power in range(6, 20)))


def _range_name(length_range):
    """What a range of lengths is, by what it gives: two functions of one name may differ, and some have no name."""
    if not callable(length_range):
        return None if length_range is None else list(map(int, length_range))
    found = []
    for epoch in _PROBED:
        try:
            found.append(list(map(int, length_range(epoch))))
        except Exception:  # it ends before, like a table; what is wrong in an epoch is said there
            found.append(None)
    return found
