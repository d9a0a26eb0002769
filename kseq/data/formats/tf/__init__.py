"""TFRecord files, and the `tf.train.Example` and `tf.train.SequenceExample` messages in them."""
