"""Stores of stores: record after record, or side by side."""

from collections.abc import Iterable

import numpy as np

from ..errors import SchemaError, StoreError
from .core import Core, check_same
from .protocol import Place, Records
from .schema import Schema
from .store import Store


def concatenate(stores: Iterable[Records]) -> Store:
    """Several stores or views as one, record after record; also such that are concatenated or parallel themselves.

    Raises:
        StoreError: no store.
        SchemaError: fields that differ.

    Example:
        >>> both = concatenate([kseq.data.open("monday"), kseq.data.open("tuesday")[:100]])  # doctest: +SKIP
    """
    stores = list(stores)
    if not stores:
        raise StoreError("no store was given to concatenate")
    schema = stores[0].schema
    check_same([(", ".join(store.paths), store.schema) for store in stores])
    together = {}  # fields that lie together in every store do so afterwards
    for name in schema:
        parts = [store.place(name) for store in stores]
        together.setdefault(tuple(part.group for part in parts), []).append((name, parts))
    places = {}
    for fields in together.values():
        places |= _joined(fields, schema)
    return Store(schema, {name: places[name] for name in schema}, stores[0].metadata)


def _joined(fields, schema):
    """The places of fields that lie together: pairs of their name and their place in each store."""
    names = [name for name, _ in fields]
    sources, rows, offset = [], [], 0
    for core, _, own in fields[0][1]:
        columns = [parts[len(rows)].column for _, parts in fields]
        sources += [source.select(columns) for source in core.sources]
        rows.append(offset + (np.arange(core.rows) if own is None else own))
        offset += core.rows
    main = schema.main if schema.main in names else None
    core = Core(sources, Schema({name: schema[name] for name in names}, main))
    all_of_them = all(own is None for _, _, own in fields[0][1])
    rows = None if all_of_them else np.concatenate(rows)
    return {name: Place(core, number, rows) for number, name in enumerate(names)}


def parallel(leader: str | None = None, **stores: Records) -> Store:
    """Several stores of which record `i` of one belongs to record `i` of the others.

    Fields are named `<store>_<field>`. Batches are made by the length of the leader's main sequence if it is an input;
    the others' padded lengths are a ratio of its (see `length_ratios` of `Batches`), so that there are no more shapes
    than with one.

    Args:
        leader: name of the store that leads; by default the first.
        **stores: stores or views by name.

    Raises:
        StoreError: stores of different numbers of records.
        SchemaError: no store, a leader that is none or has no sequence, names of fields that come twice.

    Example:
        >>> pairs = parallel(english=english, german=german)  # doctest: +SKIP
        >>> pairs.batches(max_tokens=4096, inputs="english_tokens", targets="german_tokens")  # doctest: +SKIP
    """
    if not stores or leader not in (None, *stores):
        raise SchemaError(f"the leader must be one of the stores {list(stores)}; received {leader!r}")
    counts = {name: len(store) for name, store in stores.items()}
    if len(set(counts.values())) != 1:
        raise StoreError(f"parallel stores must have the same number of records; received {counts}")
    leader = leader or next(iter(stores))
    main = stores[leader].schema.main
    if main is None:
        raise SchemaError(f"the leading store must have a sequence; {leader!r} has {stores[leader].schema}")
    fields, places = {}, {}
    for store_name, store in stores.items():
        for name, field in store.schema.items():
            joint = f"{store_name}_{name}"
            if joint in fields:
                raise SchemaError(f"two fields would be named {joint!r}: give the stores other names")
            fields[joint], places[joint] = field, store.place(name)
    metadata = {name: store.metadata for name, store in stores.items()}
    return Store(Schema(fields, f"{leader}_{main}"), places, metadata)
