"""The encoder of a recurrence: a chain that gives at every step the code of what has come so far."""

from typing import Any

import keras
from keras import ops

from ..layers import Bidirectional, Dense, GaussianNoise, Serial
from ..sequence import Sequence
from .scaling import BackwardEnd, Scaling, WithCount, at_both_ends
from .stacks import exact


class RecurrentEncoder(Serial):
    """At every step the code of what has come so far.  [B, T, C] -> [B, T, code].

    A chain: the scale of the data, noise where it is denoising, the layers, a product, and the number of steps beside
    it, which is the code's last number. It streams as any layer of kseq's does, if its layers do: the code after a step
    is that of the steps so far. Of a bidirectional layer, what has run backwards is read where it ends, at the first
    step. Mask: as the layers'. Timing: as the layers'.

    Args:
        layers: the layers between the data and the code.
        latent_dim: size of the code.
        noise: standard deviation of what is added to scaled data while training.
    """

    def __init__(self, layers: list[Any], latent_dim: int, noise: float = 0.0, **kwargs: Any) -> None:
        policy = keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        own: dict[str, Any] = {"dtype": policy}
        wide = exact(policy.compute_dtype)
        scaling, counted = Scaling(name="scaling", dtype=wide), WithCount(name="count", dtype=wide)
        product = Dense(latent_dim - 1, name="code", dtype=wide)
        before = [GaussianNoise(noise, name="noise", **own)] if noise else []
        before += [
            *layers,
            *(BackwardEnd(name="backward_end", **own) for layer in layers[-1:] if runs_both_ways(layer)),
        ]
        super().__init__([scaling, *before, product, counted], **kwargs)
        self.scaling, self.counted, self.product = scaling, counted, product
        self.inner, self.before_code = list(layers), before

    @property
    def width(self) -> int:
        """Channels that the code is made of."""
        return self.product.kernel.shape[0]

    def read(self, x: Sequence, training: bool) -> dict[str, Any]:
        """What a whole sequence comes to.

        Returns:
            A dict: `code` [B, code]; `features` [B, width], what it was made of; `sequence`, the outputs of the last
            layer with weights; and `states`, of each of these the last one.
        """
        x = x.with_mask().mask_invalid()
        h, sequence, states = self.scaling(x), None, []
        for layer in self.before_code:
            h = layer(h, training=training)
            if layer in self.inner and layer.weights:
                sequence = h
                states.append(last(at_both_ends(h) if runs_both_ways(layer) else h))
        features = last(h)
        # The product of the last step alone, and the count there.
        product = self.product(features[:, None])[:, 0]
        steps = ops.sum(ops.cast(h.with_mask().mask, "int32"), axis=1)
        count = ops.cast(self.counted.scaled(steps), product.dtype)[:, None]
        return {
            "code": ops.concatenate([product, count], axis=-1),
            "features": features,
            "sequence": h if sequence is None else sequence,
            "states": tuple(states),
        }


def runs_both_ways(layer: Any) -> bool:
    """Whether a layer has in the second half of its channels what runs backwards."""
    return isinstance(layer, Bidirectional) and layer.merge_mode == "concat"


def last(x: Sequence) -> Any:
    """The values of each row's last valid step; of a row without steps whatever stands first."""
    if x.mask is None:
        return x.values[:, -1]
    place = ops.maximum(ops.sum(ops.cast(x.mask, "int32"), axis=1) - 1, 0)[:, None, None]
    return ops.squeeze(ops.take_along_axis(x.values, place, axis=1), axis=1)
