"""Padded batches of a store, by a plan: for Keras, torch, tf.data and grain."""
