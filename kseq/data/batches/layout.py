"""What a batch holds: which fields, how each is read, in which structure, and which of them leads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kseq.arguments import as_integer
from kseq.masks import mask_rule

from ..errors import RecordError, SchemaError
from ..store.protocol import Records
from .options import Options
from .slots import Group, Slot, group_slots
from .structure import FieldNames, Structure, field_of


class BatchLayout:
    """The fields of a batch, made of a store and the `Options`.

    Attributes:
        store: the store.
        inputs, targets: their `Structure`s; targets may be None.
        weights: the slot of the sample weights, or None.
        slots: every slot, in the order of its arrays.
        groups: the slots by where they lie: `Group`s.
        sequences: the fields that are sequences, in order.
        leader: the one whose padded length the plan chooses, or None.
        framed: sequences that are targets with a step for each output of the model.
        fixed: padded lengths of other sequences by field, -1 for that of the longest.
        followers: the rest, whose padded length is a ratio of the leader's.
        rule: how the model changes a mask, or None.
        ruled: the slot of the input whose mask goes through the model, or None.
        labels: whether the target is a dict of labels and lengths (CTC).
        added: steps that are put before and after the stored ones of each sequence.

    Raises:
        SchemaError: fields that do not exist or do not fit.
        ValueError: options that do not fit the fields.
        RecordError: records that cannot be packed.
    """

    store: Records
    groups: list[Group]

    def __init__(self, store: Records, options: Options) -> None:
        schema, self.store = store.schema, store
        inputs = options.inputs
        if inputs is None:
            inputs = schema.main or (next(iter(schema)) if len(schema) == 1 else None)
            if inputs is None:
                raise SchemaError(f"name the inputs: no field is a sequence, the fields are {list(schema)}")
        inputs = FieldNames(inputs, schema)
        targets = None if options.targets is None else FieldNames(options.targets, schema)
        shown = [*inputs.shown, *(targets.shown if targets else ())]
        if options.sample_weights is not None:
            shown.append(_weights_field(options.sample_weights, schema))
        shown = list(dict.fromkeys(shown))
        fields = list(dict.fromkeys(map(field_of, shown)))

        self.sequences: list[str] = [name for name in fields if schema[name].ragged]
        led = [name for name in inputs.fields if schema[name].ragged] or self.sequences
        self.leader: str | None = schema.main if schema.main in led else next(iter(led), None)
        if self.leader is None and not _needs_none(options):
            raise SchemaError("bucket, max_tokens, pack and length_range need a sequence among inputs and targets")
        self._read_model(options, inputs, targets, schema)
        self._divide(options)

        bos, eos = (_by_field(name, getattr(options, name), self.sequences, self.leader) for name in ("bos", "eos"))
        self.added: dict[str, int] = {name: (name in bos) + (name in eos) for name in self.sequences}
        fills = options.pad_value if isinstance(options.pad_value, dict) else dict.fromkeys(fields, options.pad_value)
        self._check_fills(options.pad_value, fills, fields, schema)
        self.groups, slots = group_slots(
            store, shown, lambda name: (fills.get(name, 0), bos.get(name), eos.get(name)), options
        )
        self.slots: list[Slot] = [slot for group in self.groups for slot in group.slots]
        self.inputs: Structure = Structure(inputs, [slots[each] for each in inputs.shown], options.masks, options.pack)
        self.targets: Structure | None = (
            None if targets is None else Structure(targets, [slots[each] for each in targets.shown], None)
        )
        self.ruled: Slot | None = (
            None if self.rule is None else next(each for each in self.inputs.slots if each.name == self.leader)
        )
        self.weights: Slot | None = None if options.sample_weights is None else slots[options.sample_weights]
        if options.pack:
            self._check_packing(fields)

    def _read_model(self, options, inputs, targets, schema):
        self.rule: Callable[[Any], Any] | None = None if options.model is None else mask_rule(options.model)
        self.labels: bool = options.model is not None and options.target_alignment == "sequence"
        if self.rule is not None and self.leader not in inputs.fields:
            raise ValueError("model needs a sequence among the inputs: its mask is what goes through the model")
        if self.labels and (targets is None or not targets.single or not schema[targets.fields[0]].ragged):
            raise ValueError(
                f'target_alignment="sequence" needs one target that is a sequence; received {options.targets!r}'
            )
        framed = targets.fields if targets and self.rule is not None and not self.labels else ()
        self.framed: list[str] = [name for name in framed if schema[name].ragged]

    def _divide(self, options):
        """Which of the sequences beside the leader have a length of their own, and which follow it."""
        self.fixed: dict[str, int] = {}
        for name, given in (options.pad_to if isinstance(options.pad_to, dict) else {}).items():
            if name not in self.sequences:
                raise SchemaError(f"pad_to names fields among {self.sequences}; received {name!r}")
            if name != self.leader:
                self.fixed[name] = -1 if given == "max" else as_integer(f"pad_to of {name!r}", given, 1)
        others = [name for name in self.sequences if name != self.leader and name not in self.framed]
        if options.pack:
            others = []
        if options.pad_to == "max":
            self.fixed |= dict.fromkeys((name for name in others if name not in self.fixed), -1)
        self.followers: list[str] = [name for name in others if name not in self.fixed]
        for name in options.length_ratios:
            if name not in self.followers:
                raise SchemaError(f"length_ratios names fields among {self.followers}; received {name!r}")

    def _check_fills(self, given, fills, fields, schema):
        for name in fills:
            if name not in fields:
                raise SchemaError(f"pad_value names fields among {fields}; received {name!r}")
        for name in fields:
            if schema[name].optional and not schema[name].ragged and not (isinstance(given, dict) and name in given):
                raise SchemaError(
                    f"field {name!r} is optional: give pad_value={{{name!r}: ...}} for where it is missing"
                )

    def _check_packing(self, fields: list[str]) -> None:
        schema = self.store.schema
        wrong = [name for name in fields if not schema[name].ragged]
        if wrong:
            raise SchemaError(f"pack takes sequences only; received {wrong}, which are {[schema[n] for n in wrong]}")
        if len(self.groups) > 1:
            raise ValueError("pack takes the fields of one store")
        assert self.leader is not None
        lengths = self.store.field_lengths(self.leader)
        for name in self.sequences:
            others = self.store.field_lengths(name)
            bad = np.flatnonzero(others != lengths)
            if len(bad):
                raise RecordError(
                    f"sequences of a record must have the same length to be packed; {self.leader!r} has "
                    f"{lengths[bad[0]]} steps, {name!r} {others[bad[0]]}",
                    int(bad[0]),
                )


def _needs_none(options):
    ranges = options.length_range, options.length_schedule
    return not (options.bucket or options.batch_size is None or options.pack) and ranges == (None, None)


def _weights_field(name, schema):
    kind = schema.get(name)
    if kind is None or kind.shape or kind.text or kind.dtype.kind not in "biuf":
        raise SchemaError(f"sample_weights must be a field of single numbers; received {name!r}, {kind}")
    return name


def _by_field(what, given, sequences, leader):
    """Values by field, from one for the leading sequence or a dict."""
    if given is None:
        return {}
    values = given if isinstance(given, dict) else dict.fromkeys([leader] if leader else [], given)
    for name in values:
        if name not in sequences:
            raise SchemaError(f"{what} names sequences among {sequences}; received {name!r}")
    if not values:
        raise SchemaError(f"{what} needs a sequence among inputs and targets")
    return values
