"""The checks of a source that is context: a sequence [B, S, channels], of as many rows as the input."""

from typing import Any

from ...sequence import Sequence


def check_rank(layer: str, name: str, shape: Any) -> None:
    """Refuse a source that is no sequence of vectors.

    Args:
        layer: whose context it is, in words.
        name: of the source.
        shape: of its values.

    Raises:
        ValueError: another rank, or an unknown number of channels.
    """
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            f"the context {name!r} of {layer} must have the shape [batch, time, channels]; received {tuple(shape)}"
        )


def checked(layer: str, name: str, source: Sequence, batch: Any, channels: int) -> Sequence:
    """A source of the right shape, of at least one step: one that has none is given an invalid one.

    Raises:
        ValueError: another rank, number of channels or, where it is known, of rows.
    """
    shape = source.values.shape
    check_rank(layer, name, shape)
    if shape[-1] != channels:
        raise ValueError(
            f"the context {name!r} of {layer} must have {channels} channels; received shape {tuple(shape)}"
        )
    if isinstance(batch, int) and isinstance(shape[0], int) and shape[0] != batch:
        raise ValueError(
            f"the context {name!r} of {layer} must have {batch} rows, as the input has; received shape {tuple(shape)}"
        )
    return source.pad_time(0, 1) if shape[1] == 0 else source  # a maximum of nothing is none
