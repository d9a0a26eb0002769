"""From the rows of a plan to the arrays of a batch: which fields, in which structure, with which masks and weights."""

import bisect
import fractions
import typing
import weakref

import numpy as np

from kseq.arguments import as_integer
from kseq.masks import lengths_to_mask, mask_rule

from ..errors import RecordError, SchemaError
from .bounds import follower_length
from .plan import record_ids
from .slots import Slot, group_slots
from .structure import structure_of
from .weights import carries_mask, for_target, warn_of_metrics

_CUTS = {None: 0, "left": 1, "right": 2}
_NO_BOUND = np.iinfo(np.int64).max


class Assembly:
    """How batches of a store are put together. The arguments are those of `Batches`.

    Attributes:
        sequences: the fields that are sequences, in order.
        leader: the one whose padded length the plan chooses, or None.
        followers: those whose padded length is a ratio of the leader's.
        ratios: for each follower (numerator, denominator), or None until it is chosen.
        eos: the value that is appended to a sequence.
        fills: whether Keras too is given batches whose rows are filled up, since there are many that are not full.
        weigh_rows: whether rows may be filled, so that every batch has weights.
    """

    def __init__(
        self,
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
    ):
        if masks not in ("sequence", "inputs", None):
            raise ValueError(f'masks must be "sequence", "inputs" or None; received {masks!r}')
        if truncate not in _CUTS:
            raise ValueError(f'truncate must be None, "left" or "right"; received {truncate!r}')
        if target_alignment not in ("frames", "sequence"):
            raise ValueError(f'target_alignment must be "frames" or "sequence"; received {target_alignment!r}')
        schema = store.schema
        if inputs is None:
            inputs = schema.main or (next(iter(schema)) if len(schema) == 1 else None)
            if inputs is None:
                raise SchemaError(f"name the inputs: no field is a sequence, the fields are {list(schema)}")
        self._store, self._masks, self._pack, self._truncate = store, masks, bool(pack), truncate
        self._inputs, self._targets = (
            structure_of(inputs, schema),
            None if targets is None else structure_of(targets, schema),
        )
        self._weights = sample_weights
        names = [*self._inputs.fields, *(self._targets.fields if self._targets else ())]
        if sample_weights is not None:
            kind = schema.get(sample_weights)
            if kind is None or kind.shape or kind.text or kind.dtype.kind not in "biuf":
                raise SchemaError(
                    f"sample_weights must be a field of single numbers; received {sample_weights!r}, {kind}"
                )
            names.append(sample_weights)
        self._names = list(dict.fromkeys(names))
        self.sequences = [name for name in self._names if schema[name].ragged]
        led = [name for name in self._inputs.fields if schema[name].ragged] or self.sequences
        self.leader = schema.main if schema.main in led else next(iter(led), None)
        self.eos = (
            _by_field("eos", eos, self.sequences, [self.leader] if self.leader else []) if eos is not None else {}
        )
        self.fills = self.weigh_rows = False

        self._rule = None if model is None else mask_rule(model)
        self._labels = model is not None and target_alignment == "sequence"
        framed = self._targets.fields if self._targets and model is not None and not self._labels else ()
        self._framed = [name for name in framed if schema[name].ragged]
        if model is not None and self.leader not in self._inputs.fields:
            raise ValueError("model needs a sequence among the inputs: its mask is what goes through the model")
        if self._labels and (self._targets is None or not self._targets.single or not schema[targets].ragged):
            raise ValueError(f'target_alignment="sequence" needs one target that is a sequence; received {targets!r}')

        self._scale, self._scaled = scale_weights, masks is None if scale_weights is None else bool(scale_weights)
        self._asked_by = None

        self._fixed = {}
        for name, given in (pad_to if isinstance(pad_to, dict) else {}).items():
            if name not in self.sequences:
                raise SchemaError(f"pad_to names fields among {self.sequences}; received {name!r}")
            if name != self.leader:
                self._fixed[name] = -1 if given == "max" else as_integer(f"pad_to of {name!r}", given, 1)
        others = [name for name in self.sequences if name != self.leader and name not in self._framed]
        self.followers = [name for name in others if name not in self._fixed and pad_to != "max"] if not pack else []
        self.ratios = {name: _ratio(name, length_ratios.get(name)) for name in self.followers} if length_ratios else {}
        for name in length_ratios or ():
            if name not in self.followers:
                raise SchemaError(f"length_ratios names fields among {self.followers}; received {name!r}")

        fills = pad_value if isinstance(pad_value, dict) else {}
        for name in fills:
            if name not in self._names:
                raise SchemaError(f"pad_value names fields among {self._names}; received {name!r}")
        default = 0 if isinstance(pad_value, dict) else pad_value
        self._slots = {}
        for name in self._names:
            if schema[name].optional and not schema[name].ragged and name not in fills:
                raise SchemaError(
                    f"field {name!r} is optional: give pad_value={{{name!r}: ...}} for where it is missing"
                )
            self._slots[name] = Slot(store, name, fills.get(name, default), self.eos.get(name), _CUTS[truncate], pack)
        self._groups = group_slots(self._slots)
        self._inputs.slots = [self._slots[name] for name in self._inputs.fields]
        self._inputs.masks, self._inputs.packed = masks, self._pack
        if self._targets is not None:
            self._targets.slots = [self._slots[name] for name in self._targets.fields]
        self._targets_of = {}
        whole = len(self._groups) == 1 and self._groups[0][1] is None
        self._plain = whole and all(slot.plain for slot in self._slots.values())
        simple = whole and not any(slot.text or slot.cast for slot in self._slots.values())
        self._direct = self._groups[0][0].table.batch if simple else None
        if pack:
            self._check_packing()

    def limit(self, most, lengths):
        """Take note of the longest padded length, and refuse longer records unless they are truncated.

        Raises:
            RecordError: a record that is longer.
        """
        if self._truncate is not None:
            lengths.limit(most)
            return
        record = lengths.first_longer(most)
        if record is not None:
            raise RecordError(
                f"the length must be at most {most}, to which is padded (or pass truncate); "
                f"received {int(lengths.of(np.array([record]))[0])}",
                record,
                self.leader,
            )

    def batch(self, rows, shard, for_keras=False):
        """The batch of a plan's `BatchRows`, or the part of it that host `shard[0]` of `shard[1]` takes.

        Keras takes a smaller last batch as it is, where hosts do not share it: so its metrics count no filled row, and
        it predicts none. What is filled all the same has no part in its mean.
        """
        fills = not for_keras or self.fills or shard[1] > 1
        if rows.used < rows.size and not fills:
            rows = rows._replace(size=rows.used)
        whole = rows
        if self._pack:
            arrays = self._packed_arrays(rows)
            if shard[1] > 1:
                size = rows.size // shard[1]
                arrays = [array[shard[0] * size : (shard[0] + 1) * size] for array in arrays]
                rows = rows._replace(size=size, used=min(max(rows.used - shard[0] * size, 0), size))
        elif shard[1] > 1:
            rows, lengths = self._part(rows, shard)
            arrays = self._arrays(rows, self._by_group(lengths))
        else:
            arrays = self._arrays(rows)
        inputs = self._inputs.build(arrays)
        if self._targets is None:
            return (inputs,)
        weighed = (self.weigh_rows and fills) or self._weights is not None
        return self._with_targets(inputs, arrays, rows, _Whole(whole, shard[1], for_keras, weighed))

    def suit(self, model, look):
        """Weigh sequences that are targets as the losses of a model need it; returns whether that changed.

        Args:
            model: the model that asks for batches.
            look: gives inputs of it.
        """
        known = self._asked_by is not None and self._asked_by() is model
        if known or self._targets is None or not any(slot.ragged for slot in self._targets.slots):
            return False
        self._asked_by = weakref.ref(model)
        carried = carries_mask(model, look())
        if not carried:
            warn_of_metrics(model)
        before, self._scaled = self._scaled, not carried if self._scale is None else self._scaled
        return self._scaled != before

    def batches(self, window, shard):
        """An iterator over the batches of a plan's window: what `batch` gives, without detours that never are needed.

        A batch of short records takes microseconds, of which every step in Python is a part.
        """
        weighed = self._targets is not None and (
            self._rule is not None
            or self.weigh_rows
            or self._weights is not None
            or any(slot.ragged for slot in self._targets.slots)
        )
        if self._direct is None or self._pack or shard[1] > 1 or weighed:
            return (self.batch(rows, shard) for rows in window)
        return (self._viewed if self._plain and window[0].ids is None else self._gathered)(window, shard)

    def _gathered(self, window, shard):
        finish, jobs = self._finisher(), self._groups[0][3]
        padded, table_batch = self._targets_of, self._direct
        for rows in window:
            ids, start, used, size, bound, _ = rows
            lengths = padded.get(bound)
            arrays = 0 if used < size or lengths is None else table_batch(jobs, ids, start, size, lengths[0])
            # What the kernel has refused `batch` raises an error for.
            yield self.batch(rows, shard) if type(arrays) is int else finish(arrays)

    def _viewed(self, window, shard):
        """Batches whose records lie together on the disk, as views: those that follow one another are cut at once."""
        finish, (chunks, _, slots, _) = self._finisher(), self._groups[0]
        columns, first_rows = [chunks.values[slot.number] for slot in slots], chunks.first_rows
        at, count = 0, len(window)
        while at < count:
            _, start, used, size, _, _ = window[at]
            chunk = bisect.bisect_right(first_rows, start) - 1
            room = (first_rows[chunk + 1] - start) // size
            if used < size or not room:  # filled, or in two chunks
                yield self.batch(window[at], shard)
                at += 1
                continue
            end = at + 1
            while end < count and end - at < room and window[end][1:3] == (start + size * (end - at), size):
                end += 1
            first, last = start - first_rows[chunk], start - first_rows[chunk] + size * (end - at)
            arrays = [parts[chunk][first:last] for parts in columns]
            if end == at + 1:
                yield finish(arrays)
            else:
                cut = [array.reshape(end - at, size, *array.shape[1:]) for array in arrays]
                yield from map(finish, zip(*cut, strict=True))
            at = end

    def _finisher(self):
        """A function from arrays to the batch, where it has no weights."""
        inputs, targets = self._inputs.builder(), None if self._targets is None else self._targets.builder()
        if targets is None:
            return lambda arrays: (inputs(arrays),)
        return lambda arrays: (inputs(arrays), targets(arrays))

    # Arrays: for every field its values, and after those of a sequence its mask, at the places that its slot knows.

    def _arrays(self, rows, targets=None):
        ids, start, used, size, bound, _ = rows
        if used < size and (ids is None or len(ids) < size):
            ids = np.arange(start, start + used) if ids is None else ids
            ids = np.concatenate([ids, np.repeat(ids[:1], size - used)])
        if ids is None and self._plain:
            found = self._views(start, size)
            if found is not None:
                return found
        if targets is None:
            targets = self._targets_of.get(bound)
        if targets is None:
            targets = self._targets_of[bound] = self._by_group(self._padded_lengths(bound))
        if self._direct is not None:
            arrays = self._direct(self._groups[0][3], ids, start, size, targets[0])
            if type(arrays) is not int:
                return arrays
        return self._arrays_by_group(ids, start, size, targets)

    def _arrays_by_group(self, ids, start, size, targets):
        """Fields of several stores or views, texts, and those that the kernel does not convert."""
        found = []
        for (chunks, places, slots, jobs), lengths in zip(self._groups, targets, strict=True):
            own = ids
            if places is not None:
                own = places[start : start + size] if ids is None else places[ids]
            arrays = chunks.table.batch(jobs, own, start, size, lengths)
            if type(arrays) is int:
                self._refuse(slots, own, start, arrays, lengths)
            arrays = iter(arrays)
            for slot in slots:
                if slot.text:
                    found.append(slot.texts(range(start, start + size) if own is None else own.tolist()))
                    continue
                values, mask = next(arrays), next(arrays) if slot.ragged else None
                found.append(values if slot.cast is None else slot.widened(values, mask))
                if slot.ragged:
                    found.append(mask)
        return found

    def _views(self, start, size):
        """Rows of arrays that lie together on the disk, without a copy; None if a chunk ends among them."""
        chunks, _, slots, _ = self._groups[0]
        chunk = bisect.bisect_right(chunks.first_rows, start) - 1
        first, end = chunks.first_rows[chunk], chunks.first_rows[chunk + 1]
        if start + size > end:
            return None
        start -= first
        return [chunks.values[slot.number][chunk][start : start + size] for slot in slots]

    def _padded_lengths(self, bound):
        """For each sequence its padded length, -1 for that of the longest row."""
        lengths = {}
        for name in self.sequences:
            if name == self.leader:
                lengths[name] = bound
            elif name in self._framed:
                lengths[name] = -1 if bound < 0 else self._rule_length(bound)
            elif name in self._fixed:
                lengths[name] = self._fixed[name]
            else:
                lengths[name] = (
                    -1 if bound < 0 or name not in self.ratios else follower_length(bound, self.ratios[name])
                )
        return lengths

    def _by_group(self, lengths):
        return [tuple(lengths.get(slot.name, -1) for slot in slots if not slot.text) for _, _, slots, _ in self._groups]

    def _rule_length(self, length):
        return np.asarray(self._rule(np.ones((1, length), bool))).shape[1]

    def _part(self, rows, shard):
        """The rows of one host, filled, and the padded length of each sequence, which all hosts share."""
        ids, bound = record_ids(rows), rows.bound
        if bound < 0 and self.leader is not None:
            bound = int(self._steps(self.leader, ids).max())
        lengths = self._padded_lengths(bound)
        for name, length in lengths.items():
            if length < 0:
                lengths[name] = int(self._steps(name, ids).max())
        ids = np.concatenate([ids, np.repeat(ids[:1], rows.size - rows.used)])
        size = rows.size // shard[1]
        first = shard[0] * size
        used = min(max(rows.used - first, 0), size)
        return rows._replace(ids=ids[first : first + size], used=used, size=size, bound=bound), lengths

    def _steps(self, name, ids):
        """Steps of a sequence of some records, with what is appended: int64."""
        return self._store.field_lengths(name, ids) + (name in self.eos)

    def _refuse(self, slots, ids, start, bad, lengths):
        """Raise the error for the row that the table refused."""
        row = start + bad if ids is None else int(ids[bad])
        for slot, length in zip((slot for slot in slots if not slot.text), lengths, strict=True):
            place = slot.chunks.table.locate(slot.number, row)
            if place is None:
                raise slot.chunks.lying(slot.number, row)
            steps = place[2] + (slot.name in self.eos)
            if slot.ragged and 0 <= length < steps:
                raise RecordError(
                    f"the length must be at most {length}, to which is padded; received {steps}", row, slot.name
                )
        raise RecordError("the record could not be read", row)

    # Packing.

    def _check_packing(self):
        schema = self._store.schema
        wrong = [name for name in self._names if not schema[name].ragged]
        if wrong:
            raise SchemaError(f"pack takes sequences only; received {wrong}, which are {[schema[n] for n in wrong]}")
        if self._rule is not None or self._truncate is not None:
            raise ValueError("pack goes with neither model nor truncate")
        if len(self._groups) > 1:
            raise ValueError("pack takes the fields of one store")
        lengths = self._store.field_lengths(self.leader)
        for name in self.sequences:
            others = self._store.field_lengths(name)
            bad = np.flatnonzero(others != lengths)
            if len(bad):
                raise RecordError(
                    f"sequences of a record must have the same length to be packed; {self.leader!r} has "
                    f"{lengths[bad[0]]} steps, {name!r} {others[bad[0]]}",
                    int(bad[0]),
                )

    def _packed_arrays(self, rows):
        chunks, places, slots, jobs = self._groups[0]
        ids = rows.ids if places is None else places[rows.ids]
        ends = rows.ends
        if rows.used < rows.size:  # the first row again
            more = rows.size - rows.used
            first = ids[: ends[0]]
            ends = np.concatenate([ends, ends[-1] + ends[0] * np.arange(1, more + 1)])
            ids = np.concatenate([ids, np.tile(first, more)])
        arrays = []
        for slot, job in zip(slots, jobs, strict=True):
            found = chunks.table.packed(job, ids, ends, rows.bound)
            if type(found) is int:
                raise RecordError("the record does not fit its row", int(ids[found]), slot.name)
            values, segments, positions = found
            arrays += [values if slot.cast is None else slot.widened(values, segments > 0), segments > 0]
        return [*arrays, segments, positions]

    # Structure.

    def _with_targets(self, inputs, arrays, rows, whole):
        weights = self._row_weights(arrays, rows, whole) if whole.weighed else None
        output_mask = None
        if self._rule is not None:
            output_mask = np.asarray(self._rule(arrays[self._slots[self.leader].mask_at]))
        if self._labels:
            slot = self._targets.slots[0]
            labels = {
                "labels": arrays[slot.at],
                "label_lengths": arrays[slot.mask_at].sum(1, dtype=np.int32),
                "output_mask": output_mask,
                "output_lengths": output_mask.sum(1, dtype=np.int32),
            }
            return (inputs, labels) if weights is None else (inputs, labels, weights)
        targets = self._targets.build(arrays)
        if weights is None and not any(slot.ragged for slot in self._targets.slots):
            return inputs, targets
        by_field = []
        for slot in self._targets.slots:
            if slot.ragged:
                found = self._step_weights(slot, arrays, output_mask, rows, whole)
            else:
                found = np.ones(len(arrays[slot.at]), np.float32) if weights is None else weights
            by_field.append(for_target(found, arrays[slot.at]))
        return inputs, targets, self._targets.of(by_field)

    def _row_weights(self, arrays, rows, whole):
        """A weight a row, float32 [B].

        Keras divides by all rows: for it those that count make up for filled ones, on whichever host those are.
        """
        weights = np.full(rows.size, whole.rows.size / whole.rows.used if whole.for_keras else 1, np.float32)
        weights[rows.used :] = 0
        return weights if self._weights is None else weights * arrays[self._slots[self._weights].at]

    def _step_weights(self, slot, arrays, output_mask, rows, whole):
        """A weight a step of a sequence, float32 [B, U], such that Keras's mean is that of the valid steps.

        Keras divides by all cells, or by the steps of its own mask, which filled rows have too.
        """
        mask = arrays[slot.mask_at]
        if output_mask is not None:
            if mask.shape != output_mask.shape:
                raise RecordError(
                    f"the target must have a step for each of the model's outputs, {output_mask.shape[1]}; "
                    f"received {mask.shape[1]}",
                    field=slot.name,
                )
            mask = mask & output_mask
        steps = mask.astype(np.float32)
        steps[rows.used :] = 0
        if self._scaled or (whole.for_keras and (whole.hosts > 1 or rows.used < rows.size)):
            divisor = whole.hosts * (mask.size if self._scaled else np.count_nonzero(mask))
            valid = np.count_nonzero(steps) if whole.hosts == 1 else self._valid_steps(slot, mask.shape[1], whole.rows)
            steps *= divisor / max(valid, 1)
        return steps if self._weights is None else steps * arrays[self._slots[self._weights].at][:, None]

    def _valid_steps(self, slot, length, whole):
        """Valid steps of a target on all hosts."""
        ids = record_ids(whole)
        lengths = self._steps(slot.name, ids)
        if self._rule is None:
            return int(lengths.sum() if self._pack else np.minimum(lengths, length).sum())
        leader = np.minimum(self._steps(self.leader, ids), whole.bound if whole.bound >= 0 else _NO_BOUND)
        padded = whole.bound if whole.bound >= 0 else int(leader.max())
        output_mask = np.asarray(self._rule(lengths_to_mask(leader, padded)))
        return np.count_nonzero(output_mask & lengths_to_mask(np.minimum(lengths, length), length))


class _Whole(typing.NamedTuple):
    """Of a batch that hosts share: its rows on all of them, and how it is weighted."""

    rows: tuple
    hosts: int
    for_keras: bool
    weighed: bool


def _by_field(what, given, known, default):
    """Values by field, from one for the default fields or a dict."""
    values = given if isinstance(given, dict) else dict.fromkeys(default, given)
    for name in values:
        if name not in known:
            raise SchemaError(f"{what} names sequences among {known}; received {name!r}")
    if not values:
        raise SchemaError(f"{what} needs a sequence among inputs and targets")
    return values


def _ratio(name, given):
    if given is None:
        return None
    ratio = fractions.Fraction(given).limit_denominator(4096)
    if ratio <= 0:
        raise ValueError(f"length_ratios of {name!r} must be above 0; received {given!r}")
    return ratio.numerator, ratio.denominator
