"""tf.data over a TFRecord file.

A record is the bytes of its arrays alone: without a tf.train.Example around them both writing and reading are about
twice as fast as with its bytes or Int64List features (the schema is then nowhere). Whole batches are decoded at once.
Length buckets are made of windows of the shuffled stream, sorted and cut by three ops, which is twice as fast as
`bucket_by_sequence_length`, a call of a graph for every record.
"""

import os

import tensorflow as tf
from data_common import BUFFER, PAIR, WINDOW, to_bytes


def write(folder, data, size):
    with tf.io.TFRecordWriter(os.path.join(folder, "data.tfrecord")) as writer:
        for record in to_bytes(data):
            writer.write(record)


def decode_tokens(records):
    lengths = tf.strings.length(records) // 4
    longest = tf.reduce_max(lengths)
    return tf.io.decode_raw(records, tf.int32, fixed_length=4 * longest), tf.sequence_mask(lengths, longest)


def decode_pairs(records):
    flat = tf.io.decode_raw(records, tf.float64, fixed_length=8 * sum(PAIR))
    return tf.reshape(flat[:, : PAIR[0]], (-1, 10, 10)), tf.reshape(flat[:, PAIR[0] :], (-1, 2, 10, 2))


def read(folder, data, size, order):
    records = tf.data.TFRecordDataset(os.path.join(folder, "data.tfrecord"), buffer_size=1 << 20)

    def sort(window):
        return tf.reshape(tf.gather(window, tf.argsort(tf.strings.length(window))), (-1, size))

    if order == "shuffled":
        records = records.shuffle(BUFFER)
    if order == "shuffled" and data.kind == "ragged":
        batches = records.batch(WINDOW * size).map(sort).unbatch().shuffle(WINDOW)
    else:
        batches = records.batch(size)
    if order == "block":
        batches = batches.shuffle(BUFFER // size)
    batches = batches.map(decode_tokens if data.kind == "ragged" else decode_pairs)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    batches = batches.with_options(options)
    return batches.as_numpy_iterator
