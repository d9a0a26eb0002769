"""The one door through which layers become known: to Keras's saving, to specs, to the contract test."""

import keras

PACKAGE = "kseq"
_LAYERS: dict[str, type] = {}


def register(target=None, /):
    """Register a layer class under its class name, or under a namespaced name of a third party.

    The class becomes serialisable by Keras and is listed by `registered_layers`.

    Args:
        target: the class (when used bare), or a name `"namespace.ClassName"`.

    Returns:
        The class, or a decorator.

    Raises:
        ValueError: a name without a namespace, or one that another class has taken.

    Example:
        >>> import kseq
        >>> @kseq.register("acme.Twice")
        ... class Twice(kseq.SequenceLayer):
        ...     def call_step(self, x, state, *, training=False, constants=None):
        ...         return x.apply(lambda values: 2 * values), state
        >>> kseq.Serial([Twice(), kseq.Delay(1)]).timing.input_latency
        1
    """
    if isinstance(target, str):
        package, _, name = target.rpartition(".")
        if not package or not name.isidentifier():
            raise ValueError(f"a registered name must be 'namespace.ClassName'; received {target!r}")
        return lambda cls: _register(cls, package, name)
    return _register(target, PACKAGE, target.__name__)


def _register(cls, package, name):
    key = name if package == PACKAGE else f"{package}.{name}"
    known = _LAYERS.get(key)
    # A module that is run again (a notebook cell, a reload) defines the same class anew.
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {key!r} is taken by {known.__module__}.{known.__qualname__}; received {cls!r}")
    _LAYERS[key] = cls
    return keras.saving.register_keras_serializable(package=package, name=name)(cls)


def registered_layers() -> dict[str, type]:
    """Every registered layer class by name."""
    return dict(_LAYERS)
