from .stepwise import *  # noqa: F403
from .stepwise import Stepwise, joins_masks, map_sequences, obstacle
