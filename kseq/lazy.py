"""Public names of a package that are imported on first use, so that a program loads only what it uses."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any


def lazy_names(package: str, public: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) for a package whose public names lie in its modules.

    A package calls this where `typing.TYPE_CHECKING` is false, and imports the same names where it is true: type
    checkers and editors then know them.

    Args:
        package: the package's `__name__`.
        public: for each public name the module, relative to the package, that it is taken from; a module's own name
            gives the module itself.

    Returns:
        The pair (`__getattr__`, `__dir__`): `dir(package)` shows what is public, and not what the package imports.

    Example:
        >>> getattribute, names = lazy_names("kseq", {"Timing": "timing", "timing": "timing"})
        >>> getattribute("Timing") is getattribute("timing").Timing
        True
    """

    def __getattr__(name):
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{public[name]}")
        value = module if public[name] == name else getattr(module, name)
        setattr(sys.modules[package], name, value)  # the next use finds it at once
        return value

    def __dir__():
        return sorted(public)

    return __getattr__, __dir__


def after_import(name: str, callback: Callable[[], Any]) -> None:
    """Call `callback` when a module has been imported: now, if it has been, else right after that."""
    if name in sys.modules:
        callback()
    else:
        sys.meta_path.insert(0, _Watch(name, callback))


def before_import(name: str, callback: Callable[[], Any]) -> None:
    """Call `callback` whenever a top-level module is about to be imported; what it raises, the import raises."""
    sys.meta_path.insert(0, _Watch(name, before=callback))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds one module as it would be found anyway, and calls something before it, or after it, and then goes away."""

    def __init__(self, name: Any, callback: Any = None, before: Any = None) -> None:
        self._name, self._callback, self._before, self._looking = name, callback, before, False

    def find_spec(self, fullname: Any, path: Any = None, target: Any = None) -> Any:
        if fullname != self._name or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            # Whoever only asks whether there is such a module imports nothing: the watch goes on.
            spec.loader = _Followed(spec.loader, self._before, self.end)
        return spec

    def end(self) -> None:
        if self._callback and self in sys.meta_path:
            sys.meta_path.remove(self)
            self._callback()


class _Followed(importlib.abc.Loader):
    """A module's loader, with calls around it."""

    def __init__(self, loader: Any, before: Any, after: Any) -> None:
        self._loader, self._before, self._after = loader, before, after

    def __getattr__(self, name: Any) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        if self._before:
            self._before()
        self._loader.exec_module(module)
        self._after()
