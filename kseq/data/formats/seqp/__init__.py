"""The HDF5 files of seqp."""
