"""Twenty ordinary models of Keras's own layers, written without kseq: a function of an input [B, T, 4] each.

The coverage bench measures them, and the tests hold kseq to what they predict.
"""

import keras
from keras import layers, ops

CHANNELS = 4


def wavenet(x):
    skips = []
    x = layers.Conv1D(6, 1)(x)
    for rate in (1, 2, 4):
        gate = layers.Conv1D(6, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(x)
        y = layers.Conv1D(6, 2, dilation_rate=rate, padding="causal", activation="tanh")(x) * gate
        skips.append(layers.Conv1D(4, 1)(y))
        x = layers.Add()([x, layers.Conv1D(6, 1)(y)])
    return layers.Conv1D(3, 1)(layers.ReLU()(layers.Add()(skips)))


def separable(x):
    for filters in (6, 8):
        x = layers.ZeroPadding1D((2, 1))(x)
        x = layers.SeparableConv1D(filters, 4, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    return x


def strided(x):
    x = layers.Conv1D(6, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv1D(8, 4, strides=2, padding="causal", activation="relu")(x)
    return layers.Dense(3, activation="softmax")(x)


def pooled(x):
    x = layers.MaxPooling1D(2)(layers.Conv1D(6, 3, padding="same", activation="relu")(x))
    x = layers.AveragePooling1D(2)(layers.Conv1D(8, 3, padding="valid", activation="relu")(x))
    return layers.LSTM(4, return_sequences=True)(x)


def block(x, width):
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 4, dropout=0.1)(y, y, use_causal_mask=True)
    y = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
    return x + layers.Dropout(0.1)(layers.Dense(width)(y))


def transformer(x):
    return layers.Dense(4)(block(block(layers.Dense(8)(x), 8), 8))


def llama(x):
    x = layers.Dense(8)(x)
    y = layers.RMSNormalization()(x)
    x = x + layers.GroupQueryAttention(4, 4, 2, sliding_window=5, use_bias=False)(y, y, use_causal_mask=True)
    y = layers.RMSNormalization()(x)
    return x + layers.Dense(8)(ops.silu(layers.Dense(16)(y)) * layers.Dense(16)(y))


def nested(x):
    inner = keras.Sequential([keras.Input((None, 6)), layers.Conv1D(6, 5, padding="same"), layers.ReLU()])
    a = keras.Input((None, 6))
    outer = keras.Model(a, layers.Add()([inner(a), a]))
    return layers.GRU(3, return_sequences=True)(outer(layers.Dense(6)(x)))


def cells(x):
    stack = layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(4), layers.SimpleRNNCell(3)])
    return layers.Dense(2)(layers.RNN(stack, return_sequences=True)(x))


def same(x):
    for filters, size in ((6, 5), (6, 4), (4, 3)):
        x = layers.LeakyReLU()(layers.BatchNormalization()(layers.Conv1D(filters, size, padding="same")(x)))
    return x


def image(x):
    x = layers.Reshape((-1, 4, 1))(x)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D((1, 2))(x)
    x = layers.SpatialDropout2D(0.1)(layers.Conv2D(6, (3, 2), activation="relu")(x))
    return layers.Dense(3)(layers.TimeDistributed(layers.Flatten())(x))


def masked(x):
    x = layers.LSTM(6, return_sequences=True)(layers.Masking()(x))
    return layers.TimeDistributed(layers.Dense(3))(layers.GRU(4, return_sequences=True)(x))


def unet(x):
    a = layers.Conv1D(4, 3, padding="same", activation="relu")(x)
    b = layers.Conv1D(6, 3, padding="same", activation="relu")(layers.MaxPooling1D(2)(a))
    c = layers.Conv1D(8, 3, padding="same", activation="relu")(layers.MaxPooling1D(2)(b))
    b = layers.Concatenate()([layers.UpSampling1D(2)(c), b])
    b = layers.Conv1D(6, 3, padding="same", activation="relu")(b)
    a = layers.Concatenate()([layers.Conv1DTranspose(4, 4, strides=2, padding="same")(b), a])
    return layers.Conv1D(2, 3, padding="same")(a)


def unpadded(x):
    for rate in (1, 2):
        y = layers.Conv1D(4, 3, dilation_rate=rate, activation="tanh")(x)
        x = layers.Add()([y, layers.Cropping1D((rate, rate))(x)])
    return x


def vocoder(x):
    x = layers.Conv1DTranspose(6, 4, strides=2, padding="same")(x)
    x = layers.LeakyReLU()(layers.Conv1D(6, 3, padding="same")(x))
    return layers.Conv1D(1, 3, padding="causal", activation="tanh")(layers.Conv1DTranspose(4, 3, strides=3)(x))


def video(x):
    x = layers.Reshape((-1, 2, 2, 1))(x)
    x = layers.ConvLSTM2D(3, 2, padding="same", return_sequences=True)(x)
    return layers.Conv3D(2, (3, 2, 2), padding="same")(x)


def shared(x):
    conv, norm = layers.Conv1D(4, 3, padding="same"), layers.UnitNormalization()
    y = norm(conv(x))
    return layers.Average()([norm(conv(ops.tanh(y))), y, x])


def spectral(x):
    x = layers.STFTSpectrogram("magnitude", frame_length=8, frame_step=4, fft_length=8)(x)
    x = layers.Reshape((-1, 20, 1))(x)
    x = layers.DepthwiseConv2D((3, 3), strides=(2, 2), padding="valid")(x)
    return layers.TimeDistributed(layers.GlobalAveragePooling1D())(layers.Conv2D(4, 1, activation="relu")(x))


def binned(x):
    x = layers.Discretization([-1.0, 0.0, 1.0])(x)
    x = layers.Embedding(4, 3)(x)
    return layers.Dense(2)(layers.SimpleRNN(5, return_sequences=True)(layers.Reshape((-1, 12))(x)))


def normalized(x):
    x = layers.Rescaling(0.5, 0.1)(layers.Normalization(mean=0.1, variance=2.0)(x))
    x = layers.SpectralNormalization(layers.Conv1D(6, 3, padding="same"))(x)
    return layers.GaussianNoise(0.1)(layers.PReLU(shared_axes=[1])(layers.EinsumDense("btc,cd->btd", (None, 4))(x)))


def branches(x):
    towers = [layers.Conv1D(3, size, padding="same", activation="relu")(x) for size in (1, 3, 5)]
    towers.append(layers.Conv1D(3, 1)(layers.MaxPooling1D(3, 1, padding="same")(x)))
    attention = layers.MultiHeadAttention(1, 4)
    y = layers.Concatenate()(towers)
    return attention(y, layers.Dense(5)(x), use_causal_mask=True)


MODELS = (
    wavenet,
    separable,
    strided,
    pooled,
    transformer,
    llama,
    nested,
    cells,
    same,
    image,
    masked,
    unet,
    unpadded,
    vocoder,
    video,
    shared,
    spectral,
    binned,
    normalized,
    branches,
)


def build(function):
    """The model of one of the functions."""
    x = keras.Input((None, CHANNELS))
    return keras.Model(x, function(x))
