"""What is where in the HDF5 files of seqp.

Each record is a dataset named by its number ("17"), or one for each field ("17:tokens"). Texts beside them: `lengths`
(JSON), `initial_index`, `final_index`, of files with fields also `fields` (JSON) and `sequence_field`, and the user's
metadata. kseq adds one text "kseq" of JSON: the schema, and metadata that is no text; seqp takes it for metadata.
"""

import re
from typing import Any

import numpy as np

KSEQ = "kseq"
RESERVED = {"lengths", "initial_index", "final_index", "fields", "sequence_field", KSEQ}
RECORD = re.compile(r"\d+(:.*)?", re.DOTALL)
SUFFIXES = (".hdf5", ".h5")
_PLAIN = "biufc"  # kinds of dtypes that HDF5 keeps as they are


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether HDF5 keeps a dtype as it is."""
    return dtype.kind in _PLAIN and dtype.isbuiltin != 2 and dtype.itemsize <= (16 if dtype.kind == "c" else 8)
