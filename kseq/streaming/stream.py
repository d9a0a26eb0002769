"""`Stream`: a model fed chunk by chunk."""

import numpy as np

from ..sequence import Sequence, SequenceSpec
from .compiled import compile_step
from .graph import as_layer

# Blocks in one call of the step. A long chunk is a few calls, and few functions are ever compiled.
_CALL_BLOCKS = (256, 64, 16, 4, 1)


class Stream:
    """Feeds a stream through a model in chunks of any length; the outputs are those of the whole sequence.

    What does not fill a block is held until the next push. Warm-up outputs are dropped, so the first output that comes
    out belongs to the first input. The weights are those that the model has when the stream is made. The step is
    compiled at the first call of a chunk size and never again.

    Args:
        model: a kseq layer, or a `keras.Sequential` or functional model of streamable layers. It must be built.
        batch_size: streams that advance together.
        dtype: dtype of the input; by default that of a Keras model's input, else float32, or int32 if the first
            chunk is of integers.

    Attributes:
        layer: the model as one kseq layer.
        timing: its `Timing`.
        spec: channel shape and dtype of the input; the dtype may be unknown (`None`) until the first push.

    Raises:
        ValueError: a model that is not built, or that cannot step, with the reasons.
        TypeError: neither a kseq layer nor a Keras model.

    Example:
        >>> import kseq, keras, numpy as np
        >>> model = keras.Sequential([keras.Input((None, 3)), kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)])
        >>> stream = kseq.Stream(model)
        >>> x = np.random.rand(10, 3).astype("float32")
        >>> y = np.concatenate([stream.push(x[:1]), stream.push(x[1:7]), stream.push(x[7:]), stream.flush()])
        >>> bool(np.allclose(y, model.predict(x[None], verbose=0)[0], atol=1e-5))
        True
    """

    def __init__(self, model, batch_size: int = 1, *, dtype: str | None = None):
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"`batch_size` must be an integer of at least 1; received {batch_size!r}")
        self.layer = as_layer(model)
        if not self.layer.supports_step:
            raise ValueError(f"{model.name} cannot stream: {self.layer.step_obstacle}")
        self.batch_size = batch_size
        self.timing = self.layer.timing
        self.spec = SequenceSpec(_channels(model, self.layer), dtype or _dtype(model))
        self._output_latency = self.timing.output_latency
        self._step, self._block_shape = None, None
        if self.spec.dtype is not None:
            self._compile(self.spec.dtype)
        self.reset()

    def _compile(self, dtype):
        self.spec = SequenceSpec(self.spec.shape, dtype)
        self._step = compile_step(self.layer, self.batch_size, self.spec)
        self._numpy_dtype = np.dtype("float32" if dtype == "bfloat16" else dtype)
        self._block_shape = (self.batch_size, self.timing.block_size, *self.spec.shape)

    def reset(self):
        """Start a new stream: forget the state and what was held."""
        self._state = None if self._step is None else self._step.initial_state()
        self._held = None
        self._pushed = self._made = self._returned = 0
        self._as_sequence, self._batched = False, True

    @property
    def compilations(self) -> int:
        """How often the step has been compiled so far."""
        return 0 if self._step is None else self._step.compilations

    def push(self, chunk):
        """Feed a chunk and return the outputs that are ready.

        Args:
            chunk: values [T, ...] (where the batch size is 1) or [B, T, ...], of any length T, all valid; or a
                `Sequence` [B, T, ...].

        Returns:
            The outputs in the form of the chunk: [U, ...], [B, U, ...] or a `Sequence` of NumPy arrays. U may be 0.

        Raises:
            ValueError: a wrong rank, batch size, channel shape or mask shape.
            TypeError: a dtype that cannot be cast safely, or a mask that is not bool.
        """
        if (
            type(chunk) is np.ndarray
            and chunk.shape == self._block_shape
            and chunk.dtype == self._numpy_dtype
            and self._held is None
            and self._made >= self._output_latency
            and not self._as_sequence
        ):
            return self._push_block(chunk)
        values, mask, batched = self._standardize(chunk)
        self._pushed += values.shape[1]
        return self._give(*self._run(values, mask), batched)

    def _push_block(self, block):
        """What `push` comes to for one valid block when nothing is held and the warm-up is over."""
        y, _, self._state = self._step(block, None, self._state)
        self._pushed += block.shape[1]
        self._made += y.shape[1]
        self._returned += y.shape[1]
        return y

    def flush(self):
        """End the stream: return the outputs that are left, and start anew."""
        if self._step is None:
            self._compile("float32")
        limit = self.layer.output_length(self._pushed)
        held = 0 if self._held is None else self._held[0].shape[1]
        block = self.timing.block_size
        missing = self.timing.input_latency + -(held + self.timing.input_latency) % block
        values = np.zeros((self.batch_size, missing, *self.spec.shape), self._numpy_dtype)
        mask = np.zeros((self.batch_size, missing), bool)
        y = self._give(*(self._run(values, mask) if self._pushed else ([], [])), self._batched, limit=limit)
        self.reset()
        return y

    def _standardize(self, chunk):
        """Values [B, T, ...], mask or `None`, and whether the caller gave a batch axis."""
        if isinstance(chunk, Sequence):
            self._as_sequence = True
            values, mask = np.asarray(chunk.values), None if chunk.mask is None else np.asarray(chunk.mask)
            Sequence(values, mask).check()
        else:
            values, mask = np.asarray(chunk), None
        shape, rank = values.shape, len(self.spec.shape)
        batched = values.ndim == rank + 2
        if not batched and (values.ndim != rank + 1 or self.batch_size != 1 or mask is not None):
            short = "[time, ...] or " if self.batch_size == 1 else ""
            raise ValueError(
                f"a chunk must have shape {short}[batch (={self.batch_size}), time, ...] with channels "
                f"{self.spec.shape}; received {shape}"
            )
        if shape[values.ndim - rank :] != self.spec.shape or (batched and shape[0] != self.batch_size):
            raise ValueError(
                f"a chunk must have batch {self.batch_size} and channels {self.spec.shape}; received shape {shape}"
            )
        if self._step is None:
            self._compile("int32" if values.dtype.kind in "iu" else "float32")
            self._state = self._step.initial_state()
        if values.dtype != self._numpy_dtype:
            if not np.can_cast(values.dtype, self._numpy_dtype, "same_kind"):
                raise TypeError(f"a chunk must be castable to {self._numpy_dtype}; received {values.dtype}")
            values = values.astype(self._numpy_dtype)
        self._batched = batched
        return (values if batched else values[None]), mask, batched

    def _run(self, values, mask):
        """Step through all whole blocks of what was held and what is new; hold the rest."""
        if self._held is not None:
            held, held_mask = self._held
            if mask is not None or held_mask is not None:
                mask = np.concatenate([_mask(held, held_mask), _mask(values, mask)], axis=1)
            values = np.concatenate([held, values], axis=1)
        outputs, masks, start, block = [], [], 0, self.timing.block_size
        for blocks in _CALL_BLOCKS:
            size = blocks * block
            while values.shape[1] - start >= size:
                part = None if mask is None else mask[:, start : start + size]
                y, y_mask, self._state = self._step(values[:, start : start + size], part, self._state)
                outputs.append(y)
                masks.append(y_mask)
                start += size
        rest = None if mask is None else mask[:, start:]
        # A copy: the caller may write its next chunk into the same array.
        self._held = (values[:, start:].copy(), rest) if start < values.shape[1] else None
        return outputs, masks

    def _give(self, outputs, masks, batched, limit=None):
        """Join outputs, drop the warm-up and what lies beyond the end."""
        if not outputs:
            spec = self.layer.output_spec(self.spec)
            dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
            values, mask = np.zeros((self.batch_size, 0, *spec.shape), dtype), None
        elif len(outputs) == 1:
            values, mask = outputs[0], masks[0]
        else:
            values = np.concatenate(outputs, axis=1)
            known = any(m is not None for m in masks)
            mask = np.concatenate([_mask(y, m) for y, m in zip(outputs, masks, strict=True)], axis=1) if known else None
        before = max(self.timing.output_latency - self._made, 0)
        self._made += values.shape[1]
        after = values.shape[1] if limit is None else before + max(limit - self._returned, 0)
        if before or after < values.shape[1]:
            values = values[:, before:after]
            mask = None if mask is None else mask[:, before:after]
        self._returned += values.shape[1]
        if self._as_sequence:
            return Sequence(values, mask)
        return values if batched else values[0]


def _mask(values, mask):
    return np.ones(values.shape[:2], bool) if mask is None else mask


def _channels(model, layer):
    if layer is not model:
        return layer.channel_shape
    config = model.get_build_config() if model.built else None
    if not config or "input_shape" not in config:
        raise ValueError(f"{model.name} must be built before it can stream: call it once, or call `build(input_shape)`")
    return tuple(config["input_shape"][2:])


def _dtype(model):
    """The dtype of a Keras model's input, or `None`."""
    tensors = getattr(model, "inputs", None)
    return tensors[0].dtype if tensors else None
