"""`Attention`: the weights and options of all dot-product attention, and the way from inputs to heads and back."""

import inspect
from typing import Any, Unpack

import keras
from keras import ops

from ... import timing as algebra
from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ...arguments import as_size
from ...signature import constructor_arguments
from ...timing import Timing
from ..base import SequenceLayer
from .projections import Projections
from .scores import attend
from .visibility import Steps, Visibility


class AttentionOptions(LayerOptions, total=False):
    """The options that all dot-product attention shares; `Attention` explains them."""

    num_key_value_heads: int | None
    value_dim: int | None
    output_dim: int | bool | None
    position: Any
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
        flash_attention: whether fused kernels of the backend are used: `None` where they help, `False` never; `True`
            insists on them where the options allow it.
        kernel_initializer, bias_initializer, sink_initializer, kernel_regularizer, bias_regularizer, kernel_constraint,
            bias_constraint: as in Keras.

    Raises:
        ValueError: sizes below 1, heads that are no multiple of the key's, options that exclude each other, or a
            network that changes the number of steps.
    """

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
        value_dim: int | None = None,
        output_dim: int | bool | None = None,
        position: Any = None,
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
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be from 0 to below 1; received {dropout}")
        as_size("num_sink_embeddings", num_sink_embeddings, 0)
        if num_sink_embeddings and use_sink_scalars:
            raise ValueError("`num_sink_embeddings` and `use_sink_scalars` exclude each other; received both")
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
        scheme, bias, content = self.position, None, None
        if scheme is not None:
            weights = {name: self.weight(w) for name, w in self._of_positions.items()}
            content = lambda x: scheme.content_query(weights, x)  # noqa: E731
            if scheme.uses_distance:
                distance = of_key.position[..., None, :] - of_query.position[..., :, None]
                bias = lambda x: scheme.bias(weights, x, distance)  # noqa: E731
        return attend(
            query,
            key,
            value,
            visibility.visible(of_query, of_key, future),
            scale=self.scale,
            content=content,
            bias=bias,
            soft_cap=self.attention_logits_soft_cap,
            sinks=self.sinks,
            dropout=self._dropped if training and self.dropout else None,
        )

    def _dropped(self, weights):
        shape = (*ops.shape(weights)[:-2], 1, ops.shape(weights)[-1]) if self.broadcast_dropout_across_queries else None
        return keras.random.dropout(weights, self.dropout, noise_shape=shape, seed=self.seed_generator)

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
