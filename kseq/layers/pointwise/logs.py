"""`Logging`: prints what passes."""

from typing import Any, Unpack

import numpy as np

from ... import hints
from ...annotations import LayerOptions
from ...registry import register
from ...sequence import Sequence
from ..base import Example
from .base import Unchanged


@register
class Logging(Unchanged):
    """The input; its shape, its valid steps and their mean are printed.  [B, T, ...] -> [B, T, ...].

    A line for every call of layer mode and of a step: on torch always, on jax also from compiled functions (where it
    may come late), on tensorflow from eager calls alone (a compiled function prints nothing); of what is exported none.
    Mask: unchanged. Timing: none.

    Args:
        prefix: the first word of every line; by default the layer's name.
        dump_tensors: whether values and mask are printed, too.

    Example:
        >>> import kseq, numpy as np
        >>> y = kseq.Logging("seen")(np.ones((1, 2, 3), "float32"))
        seen layer: [1, 2, 3] float32, 2 of 2 steps valid, mean 1
    """

    prefix: str
    dump_tensors: bool

    def __init__(self, prefix: str = "", dump_tensors: bool = False, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        self._print(x, "layer")
        return x

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        self._print(x, "step")
        return x, state

    def _print(self, x, mode):
        start, dump = f"{self.prefix or self.name} {mode}:", self.dump_tensors

        def tell(values, mask=None):
            print(start, _described(np.asarray(values), mask, dump), flush=True)

        hints.seen_on_host(tell, *(part for part in x if part is not None))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"prefix": "seen"})]


def _described(values, mask, dump):
    mask = np.ones(values.shape[:2], bool) if mask is None else np.asarray(mask)
    valid = values[mask]
    mean = valid.mean(dtype=complex if valid.dtype.kind == "c" else float) if valid.size else np.nan
    found = f"{list(values.shape)} {values.dtype}, {mask.sum()} of {mask.size} steps valid, mean {mean:.6g}"
    return f"{found}\nvalues:\n{values}\nmask:\n{mask}" if dump else found
