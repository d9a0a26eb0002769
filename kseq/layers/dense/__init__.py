"""Layers that look at one step at a time through a weight."""

from .einsum import EinsumDense as EinsumDense
from .embedding import Embedding as Embedding
from .embedding import EmbeddingTranspose as EmbeddingTranspose
from .embedding import ReversibleEmbedding as ReversibleEmbedding
from .masked_dense import MaskedDense as MaskedDense
from .products import Dense as Dense
from .products import DenseShaped as DenseShaped
from .sequence_dense import SequenceDense as SequenceDense
from .sequence_embedding import SequenceEmbedding as SequenceEmbedding
