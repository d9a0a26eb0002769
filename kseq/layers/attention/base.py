"""`Attention`: the weights and options of all dot-product attention, and the way from inputs to heads and back."""

import functools
import inspect
import math
import numbers
from typing import Any, Unpack

import keras
from keras import ops

from ... import timing as algebra
from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ...arguments import as_size
from ...sequence import Sequence
from ...signature import constructor_arguments
from ...timing import Timing
from ..base import SequenceLayer
from ..position_scheme import PositionLike
from .fused import fused, has_kernels
from .projections import Projections
from .scores import attend
from .visibility import Steps, Visibility


class AttentionOptions(LayerOptions, total=False):
    """The options that all dot-product attention shares; `Attention` explains them."""

    num_key_value_heads: int | None
    interleave_groups: bool
    value_dim: int | None
    output_dim: int | bool | None
    position: PositionLike
    use_bias: bool
    share_key_value: bool
    use_gate: bool
    query_network: SequenceLayer | None
    key_network: SequenceLayer | None
    value_network: SequenceLayer | None
    use_qk_norm: bool
    query_scale: float | None
    use_per_dim_scale: bool
    use_per_dim_key_scale: bool
    attention_logits_soft_cap: float | None
    num_sink_embeddings: int
    use_sink_scalars: bool
    dropout: float
    broadcast_dropout_across_queries: bool
    seed: int | None
    return_attention_scores: bool
    flash_attention: bool | None
    kernel_initializer: InitializerLike
    bias_initializer: InitializerLike
    sink_initializer: InitializerLike
    kernel_regularizer: RegularizerLike
    bias_regularizer: RegularizerLike
    kernel_constraint: ConstraintLike
    bias_constraint: ConstraintLike


class Attention(Projections):
    """Multi-head dot-product attention: what the layers of it share.

    Weights are laid out, and ordered, as those of `keras.layers.MultiHeadAttention` and `GroupQueryAttention`.

    Args:
        num_heads: heads of queries.
        key_dim: size of each head's queries and keys.
        num_key_value_heads: heads of keys and values, each read by a group of query heads; by default `num_heads`.
        interleave_groups: whether query head `h` reads the key and value head `h % num_key_value_heads`, and not, as in
            Keras, the same as its neighbours.
        value_dim: size of each head's values, by default `key_dim`.
        output_dim: size of the output projection, by default the input's channels; `False` for none, which gives
            [B, T, num_heads, value_dim].
        position: how positions take part: a scheme such as `kseq.RotaryPosition(10000.0)`, its name or configuration,
            or `None`. Positions count valid steps.
        use_bias: whether projections add a bias.
        share_key_value: whether keys and values are one projection of the input.
        use_gate: whether what is read is multiplied by a sigmoid of a projection of the query's input.
        query_network, key_network, value_network: kseq layers of [B, T, heads, dim] between projections and attention,
            which keep the number of steps and come without latency.
        use_qk_norm: whether queries and keys are divided by their root mean square, and scaled by learned weights.
        query_scale: what queries are multiplied by, by default `key_dim ** -0.5`.
        use_per_dim_scale, use_per_dim_key_scale: whether queries, or keys, have a learned scale for each dimension.
        attention_logits_soft_cap: if given, logits are bounded to it by a tanh.
        num_sink_embeddings: learned keys, with values, that every query sees.
        use_sink_scalars: whether a learned logit a head takes part whose value is zero.
        dropout: part of the weights of attention that is dropped while training.
        broadcast_dropout_across_queries: whether all queries of a call drop the same keys.
        seed: of the dropout.
        return_attention_scores: whether the weights of attention are a second output, [B, T, num_heads, keys], with all
            of them in memory.
        flash_attention: whether the backend's own attention is used, which may have fused kernels: `None` on a GPU and
            where it has all options that are asked for, `False` never, `True` always. What is not finite then reaches
            all queries of its row.
        kernel_initializer, bias_initializer, sink_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.

    Raises:
        ValueError: sizes below 1, heads that are no multiple of the key's, options that exclude each other, or a
            network that changes the number of steps.
    """

    __signature__: Any
    num_heads: int
    key_dim: int
    key_heads: int
    value_size: int
    output_dim: int
    seed_generator: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Its parents' options too, which are not written down in each class.
        parameters = constructor_arguments(cls, until=(Projections,)).values()
        cls.__signature__ = inspect.Signature(list(parameters))

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        num_key_value_heads: int | None = None,
        interleave_groups: bool = False,
        value_dim: int | None = None,
        output_dim: int | bool | None = None,
        position: PositionLike = None,
        use_bias: bool = True,
        share_key_value: bool = False,
        use_gate: bool = False,
        query_network: SequenceLayer | None = None,
        key_network: SequenceLayer | None = None,
        value_network: SequenceLayer | None = None,
        use_qk_norm: bool = False,
        query_scale: float | None = None,
        use_per_dim_scale: bool = False,
        use_per_dim_key_scale: bool = False,
        attention_logits_soft_cap: float | None = None,
        num_sink_embeddings: int = 0,
        use_sink_scalars: bool = False,
        dropout: float = 0.0,
        broadcast_dropout_across_queries: bool = False,
        seed: int | None = None,
        return_attention_scores: bool = False,
        flash_attention: bool | None = None,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        sink_initializer: InitializerLike = "glorot_uniform",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.num_heads, self.key_dim = as_size("num_heads", num_heads), as_size("key_dim", key_dim)
        self.key_heads = self.num_heads
        if num_key_value_heads is not None:
            self.key_heads = as_size("num_key_value_heads", num_key_value_heads)
        if self.num_heads % self.key_heads:
            raise ValueError(
                f"`num_heads` (={num_heads}) must be a multiple of `num_key_value_heads` (={num_key_value_heads})"
            )
        self.value_size = self.key_dim if value_dim is None else as_size("value_dim", value_dim)
        if share_key_value and self.value_size != self.key_dim:
            raise ValueError(
                f"shared keys and values are of one size: `value_dim` must be {key_dim} or None; received {value_dim}"
            )
        if output_dim is not None and output_dim is not False:
            self.output_dim = as_size("output_dim", output_dim)
        if not _is_number(dropout) or not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be from 0 to below 1; received {dropout!r}")
        cap = attention_logits_soft_cap
        if cap is not None and not (_is_number(cap) and 0 < cap < math.inf):
            raise ValueError(f"`attention_logits_soft_cap` must be a positive number or None; received {cap!r}")
        if query_scale is not None and not (_is_number(query_scale) and math.isfinite(query_scale)):
            raise ValueError(f"`query_scale` must be a number or None; received {query_scale!r}")
        if flash_attention not in (None, False, True):
            raise ValueError(f"`flash_attention` must be None, False or True; received {flash_attention!r}")
        as_size("num_sink_embeddings", num_sink_embeddings, 0)
        if num_sink_embeddings and use_sink_scalars:
            raise ValueError("`num_sink_embeddings` and `use_sink_scalars` exclude each other; received both")
        if flash_attention and self._unfused:
            raise ValueError(
                f"`flash_attention` must be None or False, since the backend's attention has no {self._unfused[0]}; "
                "received True"
            )
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None
        for role, network in self._networks.items():
            self._check_network(role, network)

    def read_values(
        self,
        queries: tuple[Any, Steps],
        keys: tuple[Any, Any, Steps],
        visibility: Visibility,
        training: bool,
        future: Any = None,
    ) -> tuple[Any, Any]:
        """What queries read of the values that they see, [..., H, Q, Dv], and its weights [..., H, Q, K].

        Args:
            queries: [..., H, Q, D], and what is known of their steps.
            keys: [..., Hkv, K, D], values [..., Hkv, K, Dv], and what is known of their steps.
            visibility: which of them are seen.
            training: whether there is dropout.
            future: in the place of the visibility's, where it is known at run time alone.
        """
        (query, of_query), (key, value, of_key) = queries, keys
        visible = visibility.visible(of_query, of_key, future)
        if self._fuses and not (training and self.dropout):
            return fused(query * self.scale, key, value, visible), None
        scheme = self.position
        bias: Any = None
        content: Any = None
        if scheme is not None:
            weights = {name: self.weight(w) for name, w in self._of_positions.items()}
            content = functools.partial(scheme.content_query, weights)
            if scheme.uses_distance:
                distance = of_key.position[..., None, :] - of_query.position[..., :, None]
                bias = lambda x, scaled: scheme.bias(weights, scaled if scheme.scaled_query else x, distance)  # noqa: E731
        return attend(
            query,
            key,
            value,
            visible,
            scale=self.scale,
            content=content,
            bias=bias,
            soft_cap=self.attention_logits_soft_cap,
            sinks=self.sinks,
            dropout=self._dropped if training and self.dropout else None,
            interleaved=self.interleave_groups,
        )

    def attending(self, visibility: Visibility, training: bool, future: Any = None) -> Any:
        """A function of queries and keys that gives what they read: `read_values` without weights."""

        def attend(queries, keys):
            return self.read_values(queries, keys, visibility, training, future)[0]

        return attend

    @property
    def _fuses(self) -> bool:
        """Whether the backend's own attention is used, of which it may have fast kernels."""
        wanted = has_kernels() if self.flash_attention is None else self.flash_attention
        return wanted and not self._unfused

    @property
    def _unfused(self) -> list[str]:
        """Options that the backend's attention does not have."""
        scheme = self.position
        found = {
            "position": scheme is not None and scheme.uses_distance,
            "attention_logits_soft_cap": self.attention_logits_soft_cap is not None,
            "num_sink_embeddings": self.num_sink_embeddings,
            "use_sink_scalars": self.use_sink_scalars,
            "interleave_groups": self.interleave_groups and self.num_heads > self.key_heads > 1,
            "return_attention_scores": self.return_attention_scores,
            "value_dim": self.value_size != self.key_dim or self.sublayers,
        }
        return [name for name, there in found.items() if there]

    def _dropped(self, weights):
        shape = (*ops.shape(weights)[:-2], 1, ops.shape(weights)[-1]) if self.broadcast_dropout_across_queries else None
        return keras.random.dropout(weights, self.dropout, noise_shape=shape, seed=self.seed_generator)

    @property
    def timings(self) -> tuple[Timing, ...]:
        return (self.timing,) * (2 if self.return_attention_scores else 1)

    def output_mask(self, mask: Any) -> Any:
        mask = super().output_mask(mask[0] if type(mask) is tuple else mask)
        return (mask, mask) if self.return_attention_scores else mask

    def outputs(self, y: Any, gate: Any, scores: Any, mask: Any) -> Any:
        """What the layer gives, of what heads read [B, H, T, Dv] and of the scores [B, T, H, K], if any."""
        y = Sequence(self.combine(y, gate), mask)
        return (y, Sequence(scores, mask)) if self.return_attention_scores else y

    def networks_timing(self, *roles: str) -> Timing:
        """Of what queries, keys and values are made of, of some roles or all."""
        found = [self._networks[role].timing for role in roles or self._networks if role in self._networks]
        return algebra.parallel([Timing(), *found], ["input", *(f"network {i}" for i in range(len(found)))])

    @property
    def counts_steps(self) -> bool:
        return any(network.counts_steps for network in self.sublayers)

    @property
    def needs_positions(self) -> bool:
        """Whether positions of keys are asked for."""
        return self.position is not None and self.position.uses_distance


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
