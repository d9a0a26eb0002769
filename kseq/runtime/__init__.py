"""What streams without Keras and without a backend: arrays as bytes, and models that were exported."""
