"""Weights that make Keras's mean loss the mean over what is valid."""

import keras


def for_target(weights, target):
    """Weights [B] or [B, T] with axes of length 1 up to the rank of their target [B, ...].

    Keras aligns weights with the losses of cells, whatever the rank of those, only if they are of the target's rank.
    """
    return weights.reshape(*weights.shape, *(1,) * (target.ndim - weights.ndim))


class _Probe(keras.layers.Layer):
    """Notes whether what it is called with carries Keras's mask."""

    def __init__(self):
        super().__init__()
        self.supports_masking, self.masked = True, False

    def compute_mask(self, inputs, previous_mask=None):
        self.masked |= previous_mask is not None
        return previous_mask

    def call(self, inputs):
        return inputs


def carries_mask(model) -> bool:
    """Whether an output of a functional model carries Keras's mask, by which Keras's losses then divide.

    A model or layer that has not been called on symbolic inputs carries the mask of `kseq.Sequence`.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return True
    probes = [_Probe() for _ in outputs]
    for probe, output in zip(probes, outputs, strict=True):
        probe(output)
    return any(probe.masked for probe in probes)
