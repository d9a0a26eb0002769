"""How attention knows where steps are: the base class of position schemes, and what an argument `position` may be."""

import inspect
import reprlib
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from ..registry import registered_positions
from ..signature import constructor_arguments


class Position:
    """A position scheme of attention: it rotates queries and keys, or adds a bias to their products, or both.

    A scheme is a value, as Keras's initialisers are: it has no weights and no state, is equal to another of the same
    configuration, and may be shared by layers, which hold the weights that it asks for. A scheme of your own overrides
    what it needs, keeps its arguments as attributes of their names, and is registered with `kseq.register_position`.

    Example:
        >>> import kseq
        >>> kseq.RotaryPosition(500) == kseq.RotaryPosition(max_wavelength=500)
        True
    """

    #: Whether `bias` gives something.
    uses_distance: ClassVar[bool] = False
    #: Whether `bias` is of scaled queries, or of queries as they are projected.
    scaled_query: bool = True

    def add_weights(self, layer: keras.layers.Layer, num_heads: int, key_dim: int) -> dict[str, keras.Variable]:
        """Add the weights that a layer needs for this scheme, named `position_...`, and give them by name.

        Args:
            layer: of attention.
            num_heads: heads H of queries.
            key_dim: size D of each head's queries.

        Raises:
            ValueError: heads of a size that the scheme cannot have.
        """
        return {}

    def rotate(self, x: Any, positions: Any) -> Any:
        """Queries or keys [B, T, H, D] with their positions, int32 [B or 1, T], in them.

        Positions count valid steps; late in a stream they wrap around in 32 bits.
        """
        return x

    def content_query(self, weights: dict[str, Any], query: Any) -> Any:
        """What is compared with keys in the place of scaled queries [..., H, Q, D]."""
        return query

    def bias(self, weights: dict[str, Any], query: Any, distance: Any) -> Any:
        """What is added to the products of scaled queries and keys, [..., H, Q, K].

        A bias that is not of queries has the leading axes of `distance` alone.

        Args:
            weights: tensors by the names that `add_weights` gave, in the compute dtype.
            query: queries [..., H, Q, D], scaled if `scaled_query`.
            distance: positions of keys minus positions of queries, int32 [..., Q, K], anything where the key cannot be
                seen; leading axes broadcast.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in constructor_arguments(type(self))
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        arguments = constructor_arguments(type(self)).items()
        given = [f"{n}={_said(getattr(self, n))}" for n, a in arguments if not _same(getattr(self, n), a.default)]
        return f"{type(self).__name__}({', '.join(given)})"

    def settle(self, **values: Any) -> None:
        """Set arguments of a frozen dataclass as its `__post_init__` understood them."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


if TYPE_CHECKING:
    # By name, as a saved configuration, or the object itself.
    PositionLike = str | dict[str, Any] | Position | None
else:
    # What such an argument may be follows from its name, for layers and for specs: at run time it has no annotation.
    PositionLike = inspect.Parameter.empty


def get_position(value: Any) -> Position | None:
    """The position scheme of an argument `position`: `None`, a scheme, its name, or its configuration.

    Raises:
        ValueError: anything else, or a name that is not registered.

    Example:
        >>> get_position("RotaryPosition")
        RotaryPosition()
    """
    if value is None or isinstance(value, Position):
        return value
    if isinstance(value, str) and value in registered_positions():
        return registered_positions()[value]()
    if isinstance(value, dict):
        found = keras.saving.deserialize_keras_object(value)
        if isinstance(found, Position):
            return found
    known = ", ".join(sorted(registered_positions()))
    raise ValueError(
        f"`position` must be a position scheme, its name or its configuration, or None; received "
        f"{reprlib.repr(value)}; the registered schemes are {known}"
    )


def _said(value):
    return type(value).__name__ if isinstance(value, keras.initializers.Initializer) else repr(value)


def _same(value, default):
    """Whether an argument is its default, which may be an initialiser's name."""
    if isinstance(value, keras.initializers.Initializer) and isinstance(default, str):
        return keras.initializers.serialize(value) == keras.initializers.serialize(keras.initializers.get(default))
    return value == default
