"""What the kernels of numbers do, in NumPy: the oracle of the tests, and the fallback where nothing was compiled."""

import numpy as np

NUMBERS = set("?bBhHiIlLqQfd")  # the characters of the dtypes that are plain numbers


def widens(source, dtype):
    """Whether `Job` takes a stored dtype for another output dtype: numbers that no conversion changes."""
    known = all(kind.isbuiltin == 1 and kind.char in NUMBERS for kind in (source, dtype))
    return known and np.can_cast(source, dtype, "safe")
