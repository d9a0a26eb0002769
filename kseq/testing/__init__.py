"""The contract of a layer as one call: `check_layer`."""

from ..layers.base import Example as Example
from .contract import check_layer as check_layer
from .errors import PROPERTIES as PROPERTIES
from .errors import ContractError as ContractError
