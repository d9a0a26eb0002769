"""What the kernel that reads `tf.train.Example`s does: nothing that protobuf would not do."""


def example_columns(batch, names, lists=False):
    """What the features of some names hold in a batch of messages, or None: then protobuf has to read them.

    None is given wherever a message is not as most programs write it (an unknown field, numbers that are not packed,
    several texts, a name twice), is malformed, or holds another kind than those before it.

    Args:
        batch: N messages, bytes.
        names: of features and feature lists, bytes.
        lists: whether messages may have feature lists.

    Returns:
        For each name: the kind ("bytes_list", "float_list", "int64_list", or None where no message has it), its
        values one message after the other (int64 or float32 numbers, or a list of bytes), how many each message has of
        those that have it (int64), which have it (bool [N]), and None. Of a feature list: how many each step has, and
        in place of None how many steps each message has of those that have it (int64).
    """
    return None
