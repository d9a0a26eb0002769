"""Stores built from rows in parallel: which rows, by which tasks, written where, reported how."""
