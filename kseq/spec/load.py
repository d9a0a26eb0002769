"""`load_spec`: a spec to a Keras model."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from .build import build
from .check import check
from .errors import Collector
from .node import DEFAULT_LIMITS, Limits, SourceText, from_python
from .reader import read, read_text


def load_spec(
    spec: str | bytes | os.PathLike[str] | Mapping[str, Any],
    vars: Mapping[str, Any] | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> keras.Model:
    """The Keras model that a spec describes, built, with new weights, and compiled where the spec says how.

    An input with a mask is two inputs of the model, values and mask, in this order. A model of several inputs takes a
    list of them, and with `inputs_by_name: true` a dict by their names (`x`, and `x_mask` for its mask unless `mask`
    says otherwise). `outputs: [a, b]` are ids whose values the model gives as a list; `outputs: {first: a, second: b}`
    gives a dict, by whose names `compile` may tell losses, weights and metrics apart.

    Nothing in a spec names a module, a file or code: types are those that are registered, Keras's own that stream, and
    installed plugins of exactly the name in the spec.

    Args:
        spec: a path, YAML or JSON text (str or bytes), or a mapping. A str is a path where it is one line that ends in
            `.yaml`, `.yml` or `.json`, and text otherwise; text from elsewhere is for `load_spec_text`.
        vars: values that replace those of the spec's `vars`, by name.
        set: arguments of layers that replace the spec's, by `LAYER.ARGUMENT`, as in `{"logits.units": 40}`; the layer's
            `name` or `id` says which.
        limits: how large the text and the model may be.

    Returns:
        A functional `keras.Model`.

    Raises:
        SpecError: all that is wrong with the spec, each with its place and a hint.
        TypeError: a spec that is none of these.

    Example:
        >>> import kseq
        >>> model = kseq.load_spec('''
        ... kseq: 1
        ... vars: {d: 8}
        ... input: {shape: [null, 4]}
        ... layers:
        ...   - Conv1D: {filters: $d, kernel_size: 3}
        ...   - Dense: {units: 2}
        ... ''', vars={"d": 16})
        >>> model.count_params()
        242
    """
    return _load(*read(spec, limits), vars, set, limits)


def load_spec_text(
    text: str | bytes,
    vars: Mapping[str, Any] | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> keras.Model:
    """`load_spec` of what is known to be text, as a user may have sent it: it never opens a file.

    Args:
        text: YAML or JSON.
        vars, set, limits: as for `load_spec`.

    Raises:
        SpecError: all that is wrong with the spec.
        TypeError: neither str nor bytes.

    Example:
        >>> import kseq
        >>> kseq.load_spec_text("/etc/hosts.yaml")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        kseq.spec.errors.SpecError: <text>:1:1: a spec is a mapping ...
    """
    return _load(*read_text(text, limits), vars, set, limits)


def _load(tree, problems, vars, set, limits):
    plan = check(tree, problems, limits, _given("vars", vars, limits), _given("set", set, limits))
    return build(plan, problems, limits)


def _given(name, values, limits):
    """The tree of values from outside, or `None`."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise TypeError(f"`{name}` is a mapping of values by names; received {values!r}")
    problems = Collector(SourceText(f"<{name}>"))
    tree = from_python(values, problems, limits)
    problems.check()
    return tree
