"""The host kernels: compiled where the package was built with a compiler, else their NumPy definitions."""

import warnings

from kseq._ext.elsewhere import find_kernels

_elsewhere, _advice = find_kernels(__path__[0])
if _elsewhere is not None:
    __path__.append(str(_elsewhere))

try:
    from kseq._ext._columns import Columns
    from kseq._ext._example import example_columns
    from kseq._ext._masks import lengths_to_mask, mask_to_lengths, transposed_window, window
    from kseq._ext._order import order_by_length, pack, permute, scramble
    from kseq._ext._ragged import compact, copy_spans, pad_rows, pad_spans, row_lengths
    from kseq._ext._table import Job, Table
    from kseq._ext._widen import widens

    COMPILED = True
except ImportError as error:
    from kseq._ext.reference import (
        compact,
        copy_spans,
        lengths_to_mask,
        mask_to_lengths,
        pad_rows,
        pad_spans,
        row_lengths,
        transposed_window,
        window,
    )
    from kseq._ext.reference_columns import Columns
    from kseq._ext.reference_example import example_columns
    from kseq._ext.reference_order import order_by_length, pack, permute, scramble
    from kseq._ext.reference_table import Job, Table
    from kseq._ext.reference_widen import widens

    COMPILED = False
    warnings.warn(
        f"kseq uses its NumPy kernels, which are slower, because the compiled ones are missing ({error}). "
        + (
            _advice
            or "Install a C compiler (gcc, clang or MSVC) and build kseq again, in its source folder: "
            "pip install --force-reinstall --no-deps ."
        ),
        RuntimeWarning,
        stacklevel=2,
    )

__all__ = [
    "COMPILED",
    "Columns",
    "Job",
    "Table",
    "compact",
    "copy_spans",
    "example_columns",
    "lengths_to_mask",
    "mask_to_lengths",
    "order_by_length",
    "pack",
    "pad_rows",
    "pad_spans",
    "permute",
    "row_lengths",
    "scramble",
    "transposed_window",
    "widens",
    "window",
]
