"""Arguments that layers of Keras's have: each works, or is refused by its name with what to use."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.signature import constructor_arguments

X = np.random.default_rng(0).normal(size=(2, 7, 4)).astype("float32")
NAMESAKES = ["LSTM", "GRU", "Conv1D", "DepthwiseConv1D", "MaxPooling1D", "AveragePooling1D", "Embedding"]
# Of every layer of Keras's, and those of variants (LoRA, quantisation) of the weights.
COMMON = {*keras.layers.Layer().get_config(), "activity_regularizer", "lora_rank", "lora_alpha", "quantization_config"}
FIRST = {
    "LSTM": (2,),
    "GRU": (2,),
    "Conv1D": (2, 2),
    "DepthwiseConv1D": (2,),
    "AveragePooling1D": (2,),
    "Embedding": (3, 2),
}


@pytest.mark.parametrize("name", NAMESAKES)
def test_every_argument_of_the_namesake_is_known(name):
    ours, theirs = getattr(kseq, name), getattr(keras.layers, name)
    own = next(vars(c)["__init__"] for c in theirs.__mro__ if "__init__" in vars(c))
    names = set(own.__code__.co_varnames[1 : own.__code__.co_argcount]) - COMMON
    assert not names - set(constructor_arguments(ours)) - set(ours.fixed_arguments)
    config = theirs(*FIRST.get(name, ())).get_config()
    if "return_sequences" in config:
        config["return_sequences"] = True
    layer = ours.from_config({key: value for key, value in config.items() if key not in COMMON})
    assert not set(layer.get_config()) & set(ours.fixed_arguments)  # no part of the configuration


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: kseq.LSTM(2, return_sequences=False),
            "takes `return_sequences` as True; received False: take the last",
        ),
        (
            lambda: kseq.GRU(2, return_state=True),
            r"`return_state` as False; received True: .*layer\(x, return_state=True\)",
        ),
        (lambda: kseq.GRU(2, stateful=True), r"`stateful` as False; .*kseq\.Stream"),
        (lambda: kseq.GRU(2, go_backwards=True), "`go_backwards` as False; .*Keras's layer of this name"),
        (lambda: kseq.GRU(2, unroll=True), "`unroll` as False; .*leave it out"),
        (
            lambda: kseq.LSTM(2, recurrent_dropout=1.5),
            r"`recurrent_dropout` must be at least 0 and below 1; received 1\.5",
        ),
        (lambda: kseq.LSTM(2, use_cudnn="never"), "`use_cudnn` must be 'auto', True or False; received 'never'"),
        (lambda: kseq.LSTM(2, implementation=3), "`implementation` as 0 or 1 or 2; received 3"),
        (
            lambda: kseq.Conv1D(2, 2, data_format="channels_first"),
            "`data_format` as 'channels_last' or None; .*Permute",
        ),
        (lambda: kseq.MaxPooling1D(2, data_format="channels_first"), "MaxPooling1D takes `data_format`"),
        (lambda: kseq.Embedding(3, 2, weights=[np.zeros((3, 2))]), "(?s)`weights` as None; received .*`set_weights`"),
        (lambda: kseq.GRU(2, no_such_argument=1), "no_such_argument"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_initial_state_is_one_of_the_layer():
    layer = kseq.GRU(2)
    with pytest.raises(ValueError, match=r"`initial_state` of gru.* must have the leaves hidden; received state"):
        layer(X, initial_state=np.zeros((2, 2)))
    y, _ = layer.step(kseq.Sequence(X), layer.initial_state(2, kseq.SequenceSpec((4,))))
    np.testing.assert_allclose(ops.convert_to_numpy(y.values), ops.convert_to_numpy(layer(X)), atol=1e-6)


def test_bidirectional_says_what_to_use():
    with pytest.raises(ValueError, match=r"`go_backwards` as False; received True: .*use `kseq.Bidirectional`"):
        keras.layers.Bidirectional(kseq.GRU(2))


@pytest.mark.parametrize("name", ["Conv1D", "DepthwiseConv1D", "MaxPooling1D", "AveragePooling1D"])
def test_channels_last_is_what_there_is(name):
    cls, given = getattr(kseq, name), FIRST.get(name, ())
    layer = cls(*given, data_format="channels_last")
    assert layer.data_format == "channels_last" and layer(X).shape[2] in (2, 4)


def test_subclasses_add_their_own_arguments():
    class Loud(kseq.GRU):
        fixed_arguments = kseq.GRU.fixed_arguments | {"volume": kseq.GRU.fixed_arguments["unroll"]}

    assert Loud(2, volume=False).volume is False
    with pytest.raises(ValueError, match="Loud takes `volume` as False; received True"):
        Loud(2, volume=True)


# Embedding with `mask_zero`.

INDICES = np.array([[0, 0, 3, 1, 0, 2], [4, 1, 2, 0, 0, 0]], "int32")


def twins():
    own = [kseq.Embedding(5, 3, mask_zero=True), kseq.GRU(2)]
    stock = [keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.GRU(2, return_sequences=True)]
    models = [keras.Sequential([keras.Input((None,), dtype="int32"), *layers]) for layers in (own, stock)]
    models[0].set_weights(models[1].get_weights())
    return models


def test_mask_zero_in_a_model_is_that_of_keras():
    """Outputs at named indices, the loss that leaves the others out, and the stream."""
    ours, theirs = twins()
    named = INDICES != 0
    wanted = ops.convert_to_numpy(theirs(INDICES))
    np.testing.assert_allclose(ops.convert_to_numpy(ours(INDICES))[named], wanted[named], atol=1e-6)
    losses = []
    for model in (ours, theirs):
        model.compile("sgd", "mse")
        losses.append(model.evaluate(INDICES, np.ones((2, 6, 2)), verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    stream = kseq.Stream(ours, batch_size=2)
    pushed = [stream.push(INDICES[:, start:end]) for start, end in ((0, 1), (1, 4), (4, 6))]
    parts = [part.values if isinstance(part, kseq.Sequence) else part for part in pushed]
    found = np.concatenate([ops.convert_to_numpy(part) for part in parts], axis=1)
    np.testing.assert_allclose(found[named], wanted[named], atol=1e-6)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a network"])
def test_mask_zero_joins_what_was_valid(inside):
    layer = kseq.Embedding(5, 3, mask_zero=True)
    layer = kseq.Serial([kseq.Delay(1, delay_layer_output=True), layer]) if inside else layer
    given = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 0]], bool)
    y = layer(kseq.Sequence(INDICES, given))
    mask = ops.convert_to_numpy(y.mask)
    if inside:
        wanted = np.pad(given & (INDICES != 0), [(0, 0), (1, 0)])[:, : mask.shape[1]]
    else:
        wanted = given & (INDICES != 0)
    np.testing.assert_array_equal(mask, wanted)
    of_tensor = layer.compute_mask(ops.convert_to_tensor(INDICES), ops.convert_to_tensor(given))
    np.testing.assert_array_equal(ops.convert_to_numpy(of_tensor), wanted)
    assert layer.creates_mask and layer.mask_reads_values


def test_mask_zero_takes_one_index_a_step():
    with pytest.raises(ValueError, match=r"`mask_zero` takes values \[B, T\]; received shape \(1, 2, 3\)"):
        kseq.Embedding(5, 3, mask_zero=True)(np.ones((1, 2, 3), "int32"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Activation", {"activation": "relu"}),
        ("AveragePooling1D", {"pool_size": 2}),
        ("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal"}),
        ("Dense", {"units": 3, "activation": "relu"}),
        ("DepthwiseConv1D", {"kernel_size": 2}),
        ("Dropout", {"rate": 0.5}),
        ("Embedding", {"input_dim": 5, "output_dim": 3}),
        ("GRU", {"units": 3, "return_sequences": True}),
        ("LSTM", {"units": 3, "return_sequences": True, "unit_forget_bias": False}),
        ("LayerNormalization", {"epsilon": 0.1}),
        ("MaxPooling1D", {"pool_size": 2}),
    ],
)
def test_the_configuration_of_the_keras_layer_makes_ours(name, arguments):
    theirs = getattr(keras.layers, name)(**arguments)
    ours = getattr(kseq, name).from_config(theirs.get_config())
    x = np.array([[1, 2, 3, 4]], "int32") if name == "Embedding" else np.ones((1, 4, 3), "float32")
    wanted = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (ours(x), wanted)), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LSTM", {"units": 3}, "`return_sequences` as True; received False"),
        ("GRU", {"units": 3, "return_sequences": True, "recurrent_dropout": 1.5}, "received 1.0"),
        ("Dropout", {"rate": 0.5, "noise_shape": (1, 2)}, r"`noise_shape` must have 1 .* None .*received \(1, 2\)"),
    ],
)
def test_a_configuration_that_means_something_else_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(kseq, name).from_config(getattr(keras.layers, name)(**arguments).get_config())


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_a_normalization_needs_channels(name):
    with pytest.raises(ValueError, match=f"{name} takes values .*; received rank 2"):
        getattr(kseq, name)().build((None, 3))
