"""Normalisation: of each step, over a batch, and over time."""

from .batch_statistics import BatchNormalization as BatchNormalization
from .over_time import GroupNormalization as GroupNormalization
from .over_time import InstanceNormalization as InstanceNormalization
from .steps import L2Normalize as L2Normalize
from .steps import LayerNormalization as LayerNormalization
from .steps import RMSNormalization as RMSNormalization
