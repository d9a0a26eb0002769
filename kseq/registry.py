"""Registration: one decorator makes a class known to Keras's saving, to specs and, a layer, to the contract test."""

import contextlib
import contextvars
import dataclasses
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

PACKAGE = "kseq"
Class = TypeVar("Class", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])
_LAYERS: dict[str, type] = {}
_POSITIONS: dict[str, type] = {}
_FACTORIES: dict[str, "Factory"] = {}
_MODELS: dict[str, type] = {}
_ADAPTERS: dict[type, Callable[..., Any]] = {}
_OUT_OF_SPECS: set[type] = set()
_FORMER_NAMES: dict[str, str] = {}
_FORMER_ARGUMENTS: dict[type, dict[str, str]] = {}
# Importing these registers kseq's own layers and models, and those of Keras's layers that stream.
_OWN = ("kseq.layers", "kseq.streaming", "kseq.models")
_own_asked, _own_lock = False, threading.RLock()


@dataclasses.dataclass(frozen=True)
class Factory:
    """A function that makes a layer of a typed configuration."""

    configuration: type
    build: Callable[[Any], Any]

    def __call__(self, **arguments: Any) -> Any:
        return self.build(self.configuration(**arguments))


@overload
def register(target: Class, /) -> Class: ...
@overload
def register(
    target: str | None = None,
    /,
    *,
    former_names: Iterable[str] = (),
    former_arguments: dict[str, str] | None = None,
) -> Callable[[Class], Class]: ...
def register(
    target: Any = None, /, *, former_names: Iterable[str] = (), former_arguments: dict[str, str] | None = None
) -> Any:
    """Register a layer class under its class name, or under a namespaced name of a third party.

    The class becomes serialisable by Keras, a type in specs, and is listed by `registered_layers`.

    Args:
        target: the class (when used bare), or a name `"namespace.ClassName"`.
        former_names: names under which specs and saved models may still know the layer.
        former_arguments: new name of a constructor's argument by each name that it had.

    Returns:
        The class, or a decorator.

    Raises:
        ValueError: a name without a namespace, or one that another class has taken.

    Example:
        >>> import kseq
        >>> @kseq.register("acme.Twice", former_names=["acme.Double"])
        ... class Twice(kseq.SequenceLayer):
        ...     def call_step(self, x, state, *, training=False):
        ...         return x.apply(lambda values: 2 * values), state
        >>> kseq.Serial([Twice(), kseq.Delay(1)]).timing.input_latency
        1
    """
    if target is not None and not isinstance(target, str):
        return _register(target, target.__name__, former_names, former_arguments)
    if target is not None:
        _check_namespaced(target)
    return lambda cls: _register(cls, target or cls.__name__, former_names, former_arguments)


@overload
def register_position(target: Class, /) -> Class: ...
@overload
def register_position(target: str | None = None, /) -> Callable[[Class], Class]: ...
def register_position(target: Any = None, /) -> Any:
    """Register a position scheme of attention under its class name, or under a namespaced name of a third party.

    The class becomes serialisable by Keras, and its name, or `Name: {arguments}` in a spec, is taken by the argument
    `position` of layers.

    Args:
        target: the class, a `kseq.Position` (when used bare), or a name `"namespace.ClassName"`.

    Returns:
        The class, or a decorator.

    Raises:
        ValueError: a name without a namespace, or one that another class has taken.

    Example:
        >>> import kseq
        >>> from keras import ops
        >>> @kseq.register_position("acme.Near")
        ... class Near(kseq.Position):
        ...     uses_distance = True
        ...     def bias(self, weights, query, distance):
        ...         return -ops.cast(distance == 0, query.dtype)[..., None, :, :]
        >>> sorted(kseq.registry.registered_positions())[0]
        'AlibiPosition'
    """
    if target is not None and not isinstance(target, str):
        return _register(target, target.__name__, position=True)
    if target is not None:
        _check_namespaced(target)
    return lambda cls: _register(cls, target or cls.__name__, position=True)


def register_factory(configuration: type, name: str | None = None) -> Callable[[Function], Function]:
    """Register a function that makes a layer of a dataclass, so that specs can name it.

    In a spec the arguments are the dataclass's fields, checked against their types.

    Args:
        configuration: the dataclass.
        name: `"namespace.ClassName"`; by default the first part of the configuration's module and its class name
            without the ending "Config".

    Returns:
        A decorator of the function, which takes the configuration and returns a layer.

    Raises:
        TypeError: a configuration that is no dataclass.
        ValueError: a name without a namespace, or one that is taken.

    Example:
        >>> import dataclasses, kseq
        >>> @dataclasses.dataclass
        ... class SmoothConfig:
        ...     size: int = 3
        >>> @kseq.register_factory(SmoothConfig, "acme.Smooth")
        ... def smooth(config):
        ...     return kseq.AveragePooling1D(config.size, strides=1)
    """
    if not (isinstance(configuration, type) and dataclasses.is_dataclass(configuration)):
        raise TypeError(f"a configuration is a dataclass; received {configuration!r}")
    name = name or f"{configuration.__module__.partition('.')[0]}.{configuration.__name__.removesuffix('Config')}"
    _check_namespaced(name)
    known = _FACTORIES.get(name)
    _check_free(name, configuration, known.configuration if known else _LAYERS.get(name) or _POSITIONS.get(name))

    def decorate(build: Function) -> Function:
        _FACTORIES[name] = Factory(configuration, build)
        return build

    return decorate


def register_model(name: str) -> Callable[[Class], Class]:
    """Register a class of whole models, which a spec may name as its only layer.

    Args:
        name: `"models.ClassName"`.

    Returns:
        A decorator. The class must build itself in its constructor unless `is_planned()`, and else in `build()`; its
        `sublayers` are what has weights.
    """

    def decorate(cls: Class) -> Class:
        _check_free(name, cls, _MODELS.get(name))
        _MODELS[name] = cls
        return cls

    return decorate


_planned = contextvars.ContextVar("planned", default=False)


@contextlib.contextmanager
def planned() -> Iterator[None]:
    """Within it a whole model makes no weights when it is constructed, so that they can be counted before."""
    token = _planned.set(True)
    try:
        yield
    finally:
        _planned.reset(token)


def is_planned() -> bool:
    """Whether a whole model is to leave its weights to `build`."""
    return _planned.get()


def adapts(*classes: type, in_specs: bool = True, replace: bool = True) -> Callable[[Function], Function]:
    """Register a function that makes a streaming layer of a Keras layer of these classes, to share its weights.

    The function is called as `adapter(layer, specs, **options)`. `specs` is the `SequenceSpec` of the layer's input, or
    a list of them where the layer is called on a list; `options` are the keyword arguments of the call. It returns a
    `SequenceLayer`, or raises a ValueError with the reason where this very layer does not stream. A subclass has the
    adapter of its parent unless it has a `call` of its own.

    A function that has a parameter `site` is given a `kseq.streaming.adapters.CallSite`, which says where in the model
    the layer is called.

    Args:
        classes: classes of Keras layers.
        in_specs: whether specs may name those of them that are Keras's own.
        replace: whether it takes the place of another adapter of the class.

    Returns:
        A decorator of the function.

    Raises:
        TypeError: something that is no class of Keras layers.

    Example:
        >>> import kseq, keras
        >>> class Doubled(keras.layers.Layer):
        ...     def call(self, x):
        ...         return 2 * x
        >>> @kseq.adapts(Doubled)
        ... def doubled(layer, specs):
        ...     return kseq.Activation(layer.call)
        >>> model = keras.Sequential([keras.Input((None, 3)), Doubled()])
        >>> kseq.Stream(model).push([[1.0, 2.0, 3.0]]).tolist()
        [[2.0, 4.0, 6.0]]
    """
    import keras

    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, keras.layers.Layer)):
            raise TypeError(f"an adapter is for classes of Keras layers; received {cls!r}")

    def decorate(adapter: Function) -> Function:
        _ADAPTERS.update({cls: adapter for cls in classes if replace or cls not in _ADAPTERS})
        _OUT_OF_SPECS.update(() if in_specs else classes)
        return adapter

    return decorate


def adapter_of(layer: Any) -> Any:
    """The adapter of a Keras layer, or `None`."""
    for cls in type(layer).__mro__:
        if cls in _ADAPTERS:
            return _ADAPTERS[cls]
        if "call" in vars(cls):
            return None
    return None


def registered_layers() -> dict[str, type]:
    """Every registered layer class by name."""
    _load_own()
    return dict(_LAYERS)


def registered_positions() -> dict[str, type]:
    """Every registered position scheme of attention by name."""
    _load_own()
    return dict(_POSITIONS)


def registered_factories() -> dict[str, Factory]:
    """Every registered factory by name."""
    return dict(_FACTORIES)


def registered_models() -> dict[str, type]:
    """Every registered class of whole models by name."""
    _load_own()
    return dict(_MODELS)


def stock_layers() -> dict[str, type]:
    """Keras's own layers that have a streaming meaning and whose arguments are plain data, by class name.

    A spec takes these: a function or a layer, as `Lambda` and `TimeDistributed` have them, is not data.
    """
    import keras

    _load_own()
    others = (keras.layers.Lambda, keras.layers.Wrapper)
    found = {cls.__name__: cls for cls in _ADAPTERS if getattr(keras.layers, cls.__name__, None) is cls}
    return {name: cls for name, cls in found.items() if not issubclass(cls, others) and cls not in _OUT_OF_SPECS}


def current_name(name: str) -> str:
    """The name of today of a layer that may have had another."""
    _load_own()
    return _FORMER_NAMES.get(name, name)


def former_arguments(cls: type) -> dict[str, str]:
    """New names of a layer's arguments by former names."""
    return _FORMER_ARGUMENTS.get(cls, {})


def registered_name(cls: type) -> str | None:
    """The name under which a layer class is registered, or `None`."""
    return next((name for name, known in _LAYERS.items() if known is cls), None)


def _load_own():
    """Register kseq's own layers, so that what is known never depends on what a program has imported before.

    Questions about a class, such as `registered_name`, need it not: the class has registered itself as it was made.
    """
    global _own_asked
    with _own_lock:  # other threads wait; the modules themselves may ask what is registered while they are imported
        if _own_asked:
            return
        _own_asked = True
        try:
            for module in _OWN:
                importlib.import_module(module)
        except BaseException:
            _own_asked = False
            raise


def _register(cls, name, former_names=(), former_arguments=None, position=False):
    package, _, short = name.rpartition(".")
    package = package or PACKAGE
    key = short if package == PACKAGE else name
    _check_free(key, cls, _LAYERS.get(key) or _POSITIONS.get(key))
    (_POSITIONS if position else _LAYERS)[key] = cls
    _FORMER_ARGUMENTS[cls] = dict(former_arguments or {})
    for former in former_names:
        _FORMER_NAMES[former] = key
        _serializable(cls, former)
    # Last: Keras saves a class under the name that it was given last.
    return _serializable(cls, f"{package}.{short}")


def _serializable(cls, name):
    import keras  # when there is a class: asking what is registered, or registering a factory, needs no Keras

    package, _, short = name.rpartition(".")
    return keras.saving.register_keras_serializable(package or PACKAGE, short)(cls)


def _check_namespaced(name):
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts) or parts[0] in ("keras", PACKAGE):
        raise ValueError(
            f"a registered name must be 'namespace.ClassName', in a namespace of your own; received {name!r}"
        )


def _check_free(name, cls, known):
    # A module that is run again (a notebook cell, a reload) defines the same class anew.
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {name!r} is taken by {known.__module__}.{known.__qualname__}; received {cls!r}")
