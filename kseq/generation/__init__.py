"""Generation: sequences that a model goes on with, step by step."""

from .entry import generate as generate
from .entry import generate_steps as generate_steps
from .prompts import Generated as Generated
from .request import GenerateOptions as GenerateOptions
from .sampling import Sampling as Sampling
