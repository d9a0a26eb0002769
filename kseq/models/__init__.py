"""Models of sequences as a whole: what reads, says and scores sequences of numbers."""

from .autoencoder import SequenceAutoencoder as SequenceAutoencoder
from .schedules import exponential_decay as exponential_decay
from .scores import length_errors as length_errors
from .scores import nmse as nmse
