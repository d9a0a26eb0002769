"""`DeterministicDropout`: zeros that are a function of seed, position and channel."""

import math
import random
from collections.abc import Sequence as Items
from typing import Any, Unpack

from keras import ops

from ...annotations import LayerOptions
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example, SequenceLayer
from ..counted import at_least, mixed, mixed_number, row_keys
from ..counting import count
from .base import check_floats, checked_noise_shape, checked_rate, noise_shape_for


@register
class DeterministicDropout(SequenceLayer):
    """Dropout whose zeros are the same in layer mode and in step mode, and on every backend.  [B, T, ...].

    Whether a value is set to zero while training follows from the seed, from its position, counted in the row's valid
    steps, and from its channel: not from chunks, padding, nor from what the layer drew before. Mask: unchanged. Timing:
    none.

    Every call draws the same zeros, and they are alike in all rows. Where each row of each batch is to have zeros of
    its own, as when training, give numbers with the rows: `row_seeds_name` names a context of whole numbers [B, 1] (or
    [B, n]), from which the zeros of a row follow too, wherever in the batch it stands.

    Args:
        rate: fraction of values set to zero, from 0 to 1.
        seed: seed of the zeros; by default one is drawn when the layer is made, and kept in its configuration.
        noise_shape: as of `Dropout`; 1 for the time shares zeros along the whole sequence.
        always_dropout: whether to set values to zero where `training` is false too.
        row_seeds_name: name of the context that has the rows' seeds, or `None`.

    Raises:
        ValueError: a rate outside 0 to 1, or a `noise_shape` that does not fit the values.
        TypeError: values that are integers, or row seeds that are none.

    Example:
        >>> import kseq, numpy as np
        >>> layer, x = kseq.DeterministicDropout(0.5, seed=1), np.ones((1, 9, 1), "float32")
        >>> whole = np.asarray(layer(x, training=True))
        >>> state = layer.initial_state(1, kseq.SequenceSpec((1,)))
        >>> step, state = layer.step(x[:, :4], state, training=True)
        >>> bool((np.asarray(step.values) == whole[:, :4]).all())
        True
    """

    rate: float
    seed: int
    context_names: tuple[str, ...]
    static_context: tuple[str, ...]

    takes_complex = False
    takes_any_length = True
    context_state: tuple[str, ...] = ("key",)

    noise_shape: tuple[int | None, ...] | None

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        noise_shape: Items[int | None] | None = None,
        always_dropout: bool = False,
        row_seeds_name: str | None = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.rate, self.noise_shape = checked_rate(rate), checked_noise_shape(noise_shape)
        self.seed = random.getrandbits(31) if seed is None else seed
        self.context_names = self.static_context = () if row_seeds_name is None else (row_seeds_name,)
        if self.context_names and self.noise_shape is not None and self.noise_shape[0] == 1:
            raise ValueError(
                f"rows with seeds of their own share no zeros; received noise_shape={self.noise_shape} with "
                f"row_seeds_name={row_seeds_name!r}"
            )

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        noise_shape_for(self, input_shape[2:])

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        state = {"position": ops.zeros((batch_size,), dtype="int32")}
        if self.context_names:
            state["key"] = row_keys(
                self._key, self.check_context(context)[self.context_names[0]], self.context_names[0]
            )
        return state

    @property
    def _key(self):
        return mixed_number(self.seed)

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        check_floats(self, x.values)
        position, after = count(x.mask, ops.shape(x.values)[1], state["position"], "valid")
        if self.rate and (training or self.always_dropout):
            kept = self._kept(state, position, x.values.shape[2:])
            scaled = x.values * (0 if self.rate == 1 else 1 / (1 - self.rate))
            x = Sequence(ops.where(kept, scaled, ops.zeros_like(scaled)), x.mask)
        return x, state | {"position": after}

    def _kept(self, state, position, channels):
        """Which values stay: bool [B, T, ...] of positions [B, T], with axes of 1 where zeros are shared."""
        shape = noise_shape_for(self, channels) or (None,) * (len(channels) + 2)
        if shape[1] == 1:
            position = ops.zeros_like(position[:, :1])
        key = state["key"][:, None] if self.context_names else self._key
        bits = mixed(position + key)
        own = [m if n is None else n for n, m in zip(shape[2:], channels, strict=True)]
        channel = ops.reshape(ops.arange(math.prod(own), dtype="int32"), own)
        for _ in own:
            bits = ops.expand_dims(bits, -1)
        return at_least(mixed(bits + channel), self.rate)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"rate": 0.5, "seed": 1, "always_dropout": True}),
            Example({"rate": 0.25, "seed": 1, "always_dropout": True, "noise_shape": (None, None, 1)}),
        ]
