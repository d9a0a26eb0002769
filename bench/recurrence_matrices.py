"""The recurrences of matrices of the recurrence bench: layers, built, of 256 channels and of about as much state.

`LAYERS` has a function for each; none of them has a peer among the packages of the index that runs on jax. What they
are held to is their own step, scanned over the sequence.
"""

CHANNELS = 256
#: Whole sequences, of one row and of several.
TASKS = tuple(f"{task}/B={batch}/T=2000" for batch in (1, 8) for task in ("forward", "train"))


def built(make):
    """A layer, built, with the same weights each time."""
    import keras

    keras.utils.set_random_seed(4)
    layer = make()
    layer.build((None, None, CHANNELS))
    return layer


def mamba2():
    import kseq

    return built(lambda: kseq.Mamba2(state_dim=64, head_dim=64))


def retention():
    import kseq

    return built(lambda: kseq.Retention(num_heads=4, key_dim=64))


def gated_linear_attention():
    import kseq

    return built(lambda: kseq.GatedLinearAttention(num_heads=4, key_dim=64))


def gated_delta_net():
    import kseq

    return built(lambda: kseq.GatedDeltaNet(num_heads=4, key_dim=64))


def mlstm():
    import kseq

    return built(lambda: kseq.MLSTM(num_heads=4, key_dim=64))


LAYERS = {
    "mamba2": mamba2,
    "retention": retention,
    "gla": gated_linear_attention,
    "gated_delta_net": gated_delta_net,
    "mlstm": mlstm,
}
