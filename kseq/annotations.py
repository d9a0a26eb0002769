"""What annotations name: shapes, tensors of any backend, and the arguments that every layer takes."""

import inspect
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

Shape = tuple[int, ...]
# A path, as `os.fspath` takes it (in `kseq.data` a URL may be one, as text), and one or several of them.
AnyPath = str | os.PathLike[str]
AnyPaths = AnyPath | list[str] | list[pathlib.Path] | list[AnyPath] | tuple[AnyPath, ...]


class Shaped(Protocol):
    """What has a shape and a dtype: a tensor of any backend, or a symbol that stands for one."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


class BackendTensor(Shaped, Protocol):
    """A tensor of the Keras backend: what jax's, tensorflow's and torch's have in common."""

    @property
    def ndim(self) -> int: ...
    def __array__(self, *arguments: Any, **options: Any) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __neg__(self) -> Any: ...
    def __add__(self, other: Any, /) -> Any: ...
    def __radd__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __rsub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __rtruediv__(self, other: Any, /) -> Any: ...
    def __pow__(self, other: Any, /) -> Any: ...
    def __matmul__(self, other: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __le__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...


class OtherOptions(TypedDict, total=False):
    """What every layer takes beside a dtype."""

    name: str | None
    trainable: bool
    autocast: bool
    activity_regularizer: "RegularizerLike"


class LayerOptions(OtherOptions, total=False):
    """What every layer takes, as any of Keras's does."""

    dtype: Any


class WindowOptions(LayerOptions, total=False):
    """The same, with what a layer over windows of time takes of Keras's in one meaning alone."""

    data_format: Literal["channels_last"] | None


class RecurrentOptions(LayerOptions, total=False):
    """The same, with what a recurrent layer takes of Keras's in one meaning alone."""

    return_sequences: Literal[True]
    return_state: Literal[False]
    go_backwards: Literal[False]
    stateful: Literal[False]
    unroll: Literal[False]
    zero_output_for_mask: Literal[False]


class GatedOptions(RecurrentOptions, total=False):
    """The same, of a recurrent layer with gates."""

    implementation: Literal[0, 1, 2]


class ConvLSTMOptions(RecurrentOptions, total=False):
    """The same, of a convolutional one."""

    data_format: Literal["channels_last"] | None


class EmbeddingOptions(LayerOptions, total=False):
    """The same, with what an embedding takes of Keras's in one meaning alone."""

    weights: None


class BidirectionalOptions(LayerOptions, total=False):
    """The same, with what a bidirectional layer takes of Keras's in one meaning alone."""

    weights: None


class NormalizationOptions(LayerOptions, total=False):
    """The same, with what a normalisation takes of Keras's in one meaning alone."""

    rms_scaling: Literal[False]


class BatchStatisticsOptions(LayerOptions, total=False):
    """The same, with what a normalisation over the batch takes of Keras's in one meaning alone."""

    synchronized: Literal[False]
    renorm: Literal[False]


if TYPE_CHECKING:
    # By name, as a saved configuration, or the object itself.
    ActivationLike = str | dict[str, Any] | Callable[..., Any] | None
    InitializerLike = str | dict[str, Any] | Callable[..., Any]
    RegularizerLike = str | dict[str, Any] | Callable[..., Any] | None
    ConstraintLike = str | dict[str, Any] | Callable[..., Any] | None
    # A number, or an array as nested lists or as one of NumPy's or of the backend's.
    ConstantLike = float | list[Any] | tuple[Any, ...] | Shaped
else:
    # What such an argument may be follows from its name, for Keras and for specs: at run time it has no annotation.
    ActivationLike = InitializerLike = RegularizerLike = ConstraintLike = inspect.Parameter.empty
    ConstantLike = float | list[Any]
