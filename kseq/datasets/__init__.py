"""Small real data sets, shipped in the package."""

from . import japanese_vowels as japanese_vowels
