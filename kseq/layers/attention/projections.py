"""`Projections`: from inputs to the heads of queries, keys and values, and from what is read to outputs."""

from typing import Any

from keras import ops

from ...sequence import Sequence, SequenceSpec
from ..base import SequenceLayer
from ..complex_values import real_dtype
from ..float64 import product
from .scores import Sinks, finite_values

# 1 / log(2): a scale by dimension is 1 where its weight is zero.
_PER_SOFTPLUS = 1.442695041
_EPSILON = 1e-6  # of the normalisation of queries and keys


class Projections(SequenceLayer):
    """The part of `Attention` that has the weights."""

    takes_complex = False
    input_rank: int | None = 3

    num_heads: int
    key_heads: int
    key_dim: int
    value_size: int
    position: Any
    use_separate_projections = False
    context_names: tuple[str, ...] = ()

    @property
    def num_projected(self) -> int:
        """Projections of keys and values."""
        return len(self.context_names) if self.use_separate_projections else 1

    @property
    def _networks(self) -> dict[str, SequenceLayer]:
        found = {"query": self.query_network, "key": self.key_network, "value": self.value_network}
        return {role: network for role, network in found.items() if network is not None}

    def _check_network(self, role, network):
        if not isinstance(network, SequenceLayer):
            raise TypeError(
                f"`{role}_network` must be a kseq layer; received {network!r} of type {type(network).__name__}"
            )
        timing = network.timing
        plain = timing.block_size == timing.ratio == 1 and not timing.input_latency and not timing.output_latency
        if not plain or network.num_inputs > 1 or network.num_outputs > 1 or network.context_names:
            raise ValueError(
                f"`{role}_network` must give one step for each, without latency or context; received "
                f"{network.name} ({type(network).__name__}) of {timing}"
            )

    @property
    def sublayers(self) -> tuple[SequenceLayer, ...]:
        return tuple(self._networks.values())

    def obstacles(self) -> list[Any]:
        return [*super().obstacles(), *(row for network in self.sublayers for row in network.obstacles())]

    def _heads_of(self, role) -> tuple[int, int]:
        """Heads of a projection and the size of each."""
        if role == "gate":
            return self.num_heads, self.value_shape[1]
        heads = self.num_heads if role == "query" else self.key_heads
        return heads, self.value_size if role == "value" else self.key_dim

    def shape_of(self, role: str) -> tuple[int, int]:
        """Heads and size of queries, keys or values, after their network."""
        heads = self._heads_of(role)
        network = self._networks.get(role)
        if network is None:
            return heads
        heads, size = network.output_spec(SequenceSpec(heads, self.compute_dtype)).shape
        return heads, size

    def _check_heads(self):
        for role, network in self._networks.items():
            heads = self._heads_of(role)
            shape = network.output_spec(SequenceSpec(heads, self.compute_dtype)).shape
            if len(shape) != 2 or shape[0] != heads[0]:
                raise ValueError(
                    f"`{role}_network` must keep the {heads[0]} heads of what it is given; received {network.name}, "
                    f"which gives channel shape {tuple(shape)}"
                )
        sizes = [self.shape_of(role)[1] for role in ("query", "key")]
        if sizes[0] != sizes[1]:
            raise ValueError(
                "queries and keys must have equally many channels after `query_network` and `key_network`; received "
                f"{sizes[0]} and {sizes[1]}"
            )

    @property
    def value_shape(self) -> tuple[int, int]:
        return self.shape_of("value")

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        if self.output_dim is False:
            return SequenceSpec((self.num_heads, self.value_shape[1]), self.compute_dtype)
        channels = input_spec[0].shape[-1] if type(input_spec) is tuple else input_spec.shape[-1]
        return SequenceSpec((channels if self.output_dim is None else self.output_dim,), self.compute_dtype)

    # Weights, in Keras's order.

    def build_projections(self, channels: int, *of_sources: int) -> None:
        """Add all weights, for queries of inputs of so many channels, and keys and values of sources of so many.

        Several sources have projections of their own where the layer says `use_separate_projections`.
        """
        self._check_heads()
        self._projections: dict[str, Any] = {}
        for role in self._projected_roles:
            of_query = role in ("query", "gate")
            heads = self._heads_of(role)
            for i, size in enumerate([channels] if of_query else of_sources[: self.num_projected]):
                self._add_projection(_name_of(role, i), (size, *heads), heads)
        if self.output_dim is not False:
            size = channels if self.output_dim is None else self.output_dim
            read = (self.num_heads, self.value_shape[1])
            self._add_projection("attention_output", (*read, size), (size,))
        self._scales = {}
        for name, used in {
            "query_norm_scale": self.use_qk_norm,
            "key_norm_scale": self.use_qk_norm,
            "per_dim_scale": self.use_per_dim_scale,
            "per_dim_key_scale": self.use_per_dim_key_scale,
        }.items():
            if used:
                size = self.shape_of("key" if "key" in name else "query")[-1]
                start = "ones" if name.endswith("norm_scale") else "zeros"
                self._scales[name] = self.add_weight(shape=(size,), initializer=start, name=name)
        self._sinks: dict[str, Any] = {}
        if self.num_sink_embeddings:
            (heads, size), values = self.shape_of("query"), self.value_shape
            for name, shape in {"sink_key_embeddings": (heads, size), "sink_value_embeddings": values}.items():
                self._sinks[name] = self.add_parameter(name, (self.num_sink_embeddings, *shape), "sink")
        if self.use_sink_scalars:
            self._sinks["sink_scalars"] = self.add_weight(
                shape=(self.num_heads,), initializer="zeros", name="sink_scalars"
            )
        scheme = self.position
        self._of_positions = {} if scheme is None else scheme.add_weights(self, *self.shape_of("query"))
        for role, network in self._networks.items():
            if not network.built:
                network.build((None, None, *self._heads_of(role)))

    def adopt_projections(self, weights: Any) -> None:
        """Have the weights of a layer of Keras's, in its order, in the place of weights of its own.

        Raises:
            ValueError: others than those of its projections.
        """
        self._scales, self._sinks, self._of_positions = {}, {}, {}
        names = [*self._projected_roles, "attention_output"]
        each = 2 if self.use_bias else 1
        found = [tuple(weights[i : i + each]) for i in range(0, len(weights), each)]
        shapes = [(self.num_heads, self.value_size) if name == "attention_output" else () for name in names]
        shapes = [shape or self._heads_of(name) for name, shape in zip(names, shapes, strict=True)]
        fits = len(found) == len(names) and all(
            tuple(kernel.shape[:2] if name == "attention_output" else kernel.shape[1:]) == shape
            for name, shape, (kernel, *_) in zip(names, shapes, found, strict=True)
        )
        if not fits:
            received = ", ".join(str(tuple(w.shape)) for w in weights)
            raise ValueError(f"projections {', '.join(names)} were wanted; received weights of shapes {received}")
        self._projections = {name: (*part, None)[:2] for name, part in zip(names, found, strict=True)}

    @property
    def _projected_roles(self) -> list[str]:
        """What is projected, in Keras's order."""
        return ["query", "key", *(["gate"] if self.use_gate else []), *([] if self.share_key_value else ["value"])]

    def _add_projection(self, name, kernel_shape, bias_shape):
        kernel = self.add_parameter(f"{name}_kernel", kernel_shape, "kernel")
        bias = self.add_parameter(f"{name}_bias", bias_shape, "bias") if self.use_bias else None
        self._projections[name] = (kernel, bias)

    def channels_of(self, role: str, source: int = 0) -> int:
        """Channels that a projection takes."""
        return self._projections[_name_of(role, source)][0].shape[0]

    # From inputs to heads.

    def project(
        self,
        x: Sequence,
        roles: Any,
        position: Any,
        state: Any = None,
        active: Any = None,
        training: bool = False,
        source: int = 0,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Queries, keys, values or gates of a sequence [B, T, C], by role, each [B, heads, T, size].

        Args:
            x: the sequence.
            roles: of what is wanted.
            position: of the steps, int32 [B or 1, T].
            state: in step mode the states of networks, by role; `None` in layer mode.
            active: as in `step`.
            training: as in Keras.
            source: the number of the projection of keys and values, where sources have their own.

        Returns:
            The heads, and the next states of networks.
        """
        found, new_state = {}, {}
        for role in roles:
            projected = "key" if role == "value" and self.share_key_value else role
            y = self._product(x.values, _name_of(projected, source if projected in ("key", "value") else 0))
            if role in self._networks:
                network, given = self._networks[role], Sequence(y, x.mask)
                if state is None:
                    y = network(given, training=training)
                else:
                    y, new_state[role] = network.advance(given, state[role], training=training, active=active)
                y = y.values
            if role in ("query", "key"):
                y = self._scaled(y, role)
                if self.position is not None:
                    y = self.position.rotate(y, position)
            found[role] = ops.transpose(y, (0, 2, 1, 3))
        if "value" in found:
            found["key"], found["value"] = finite_values(found["key"], found["value"])
        return found, new_state

    def _product(self, values, role):
        kernel, bias = self._projections[role]
        # No `ops.matmul`, which makes float32 of float64 on torch.
        flat = product(values, ops.reshape(self.weight(kernel), (kernel.shape[0], -1)))
        y = ops.reshape(flat, (*ops.shape(flat)[:2], *kernel.shape[1:]))
        return y if bias is None else y + self.weight(bias)

    def _scaled(self, x, role):
        """Queries or keys with the scales of their dimensions, but for that of queries, which sinks do not see."""
        if self.use_qk_norm:
            wide = ops.cast(x, real_dtype(self.compute_dtype))
            power = ops.mean(ops.square(wide), axis=-1, keepdims=True)
            x = ops.cast(wide * ops.rsqrt(power + _EPSILON), x.dtype) * self.weight(self._scales[f"{role}_norm_scale"])
        if role == "key" and self.use_per_dim_key_scale:
            x = x * self._softplus("per_dim_key_scale")
        return x

    def _softplus(self, name):
        return _PER_SOFTPLUS * ops.softplus(self.weight(self._scales[name]))

    @property
    def scale(self) -> Any:
        """What queries are multiplied by for their logits with keys."""
        scale = self.shape_of("query")[-1] ** -0.5 if self.query_scale is None else self.query_scale
        return scale * self._softplus("per_dim_scale") if self.use_per_dim_scale else scale

    @property
    def sinks(self) -> Sinks | None:
        """What every query sees, or `None` where there is nothing."""
        weights = {name.removeprefix("sink_"): self.weight(w) for name, w in self._sinks.items()}
        if not weights:
            return None
        return Sinks(weights.get("key_embeddings"), weights.get("value_embeddings"), weights.get("scalars"))

    def network_states(self, batch_size: Any, roles: Any) -> dict[str, Any]:
        """The first states of the networks of some roles."""
        specs = {role: SequenceSpec(self._heads_of(role), self.compute_dtype) for role in roles}
        return {
            role: network.initial_state(batch_size, specs[role])
            for role, network in self._networks.items()
            if role in specs
        }

    # From what is read to outputs.

    def combine(self, y: Any, gate: Any = None) -> Any:
        """What heads read [B, H, T, Dv], times the sigmoid of a gate, as the output's channels."""
        y = ops.transpose(y if gate is None else y * ops.sigmoid(gate), (0, 2, 1, 3))
        if self.output_dim is False:
            return y
        kernel, bias = self._projections["attention_output"]
        size = kernel.shape[-1]
        y = ops.reshape(y, (*ops.shape(y)[:2], kernel.shape[0] * kernel.shape[1]))
        y = ops.einsum("btn,nc->btc", y, ops.reshape(self.weight(kernel), (-1, size)))
        return y if bias is None else y + self.weight(bias)


def _name_of(role, source):
    """The name of a projection; those of sources after the first have a number."""
    return f"{role}_{source}" if source else role
