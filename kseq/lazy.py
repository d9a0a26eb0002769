"""Public names of a package that are imported on first use, so that a program loads only what it uses."""

import importlib
import sys


def lazy_names(package, public):
    """`__getattr__` and `__dir__` (PEP 562) for a package whose public names lie in its modules.

    A package calls this where `typing.TYPE_CHECKING` is false, and imports the same names where it is true: type
    checkers and editors then know them.

    Args:
        package: the package's `__name__`.
        public: for each public name the module, relative to the package, that it is taken from; a module's own name
            gives the module itself.

    Returns:
        The pair (`__getattr__`, `__dir__`).

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
        return sorted({*vars(sys.modules[package]), *public})

    return __getattr__, __dir__
