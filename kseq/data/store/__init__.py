"""The record store: a folder of shards under a manifest; written, read, divided, joined, checked and repaired."""
