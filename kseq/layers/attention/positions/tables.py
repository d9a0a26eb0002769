"""What schemes with a learned table share: initialisers, and what is looked up by a distance."""

from typing import Any

import keras
from keras import ops

from ....arguments import as_size, check_table


def fresh(initializer: Any) -> Any:
    """An initialiser that gives other numbers than the same one did before, unless it has a seed of its own."""
    return initializer.clone() if isinstance(initializer, keras.initializers.Initializer) else initializer


def reach(max_backward: Any, max_forward: Any) -> dict[str, int]:
    """The largest distances that a table has rows for, checked, by the names of the arguments."""
    backward, forward = as_size("max_backward", max_backward, 0), as_size("max_forward", max_forward, 0)
    check_table("distances that are told apart", backward + 1 + forward, most=2**16)
    return {"max_backward": backward, "max_forward": forward}


def clipped(distance: Any, backward: int, forward: int) -> Any:
    """Rows of distances in a table of all from `-backward` to `forward`; those beyond have its first and last."""
    return ops.clip(ops.cast(distance, "int32"), -backward, forward) + backward


def select(found: Any, rows: Any) -> Any:
    """Of what queries found for each row, [..., H, Q, R], that of the rows of keys: [..., Q, K] to [..., H, Q, K]."""
    rows = ops.broadcast_to(rows[..., None, :, :], (*ops.shape(found)[:-1], ops.shape(rows)[-1]))
    return ops.take_along_axis(found, rows, axis=-1)
