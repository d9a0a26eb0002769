"""Alignments over a source: against NumPy, step by step, and where sources and queries have gaps."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq
from kseq.layers.attention.alignment.dynamic import beta_binomial
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.35, "tensorflow": 0.5}

LAYERS = {
    "mixture": lambda **o: kseq.GmmAttention(2, 3, 2, **o),
    "bounded": lambda **o: kseq.GmmAttention(2, 3, 2, max_offset=1.5, init_offset_bias=0.5, init_scale_bias=0.2, **o),
    "places": lambda **o: kseq.GmmAttention(2, 3, 2, monotonic=False, **o),
    "additive": lambda **o: kseq.AdditiveAttention(2, 3, **o),
    "location": lambda **o: kseq.LocationSensitiveAttention(2, 3, 2, 3, **o),
    "location, even": lambda **o: kseq.LocationSensitiveAttention(2, 3, 2, 4, **o),
    "location, valid": lambda **o: kseq.LocationSensitiveAttention(2, 3, 2, 3, "valid", **o),
    "dynamic": lambda **o: kseq.DynamicConvolutionAttention(2, 3, 2, 0.3, 0.9, 2, 3, 4, **o),
}
PARAMS = [pytest.param(make, id=name) for name, make in LAYERS.items()]
every_layer = pytest.mark.parametrize("make", todays(PARAMS, of="alignments", jax=0.25, tensorflow=0.4))
BATCH, TIME, SIZE = 4, 6, 7
LENGTHS = np.array([7, 4, 1, 0])


def numpy(x):
    return ops.convert_to_numpy(x)


def drawn(make, **options):
    """A layer with weights far from those that it begins with, and its queries, their mask and its source."""
    rng = np.random.default_rng(3)
    layer = make(**options)
    layer.build((BATCH, TIME, 4), context_shape={layer.source: (BATCH, SIZE, 5)})
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x = rng.normal(size=(BATCH, TIME, 4)).astype("float32")
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 1]], bool)
    source = kseq.Sequence.from_lengths(rng.normal(size=(BATCH, SIZE, 5)).astype("float32"), LENGTHS)
    return layer, kseq.Sequence(x, mask), source


def whole(layer, x, source):
    """Layer mode, zero at invalid steps."""
    with transforms.no_gradients():
        return numpy(layer(x, context={layer.source: source}).mask_invalid().values)


def stepped(layer, x, source, chunks):
    with transforms.no_gradients():
        state = layer.initial_state(len(x.values), kseq.SequenceSpec((4,)), {layer.source: source})
        parts, start = [], 0
        for size in chunks:
            y, state = layer.step(x.slice_time(start, start + size), state)
            parts.append(y)
            start += size
    return numpy(kseq.Sequence.concatenate(parts).mask_invalid().values)


# What the layers are, one row and one head and one step at a time.


def softplus(x):
    return np.log1p(np.exp(x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def beside(track, size, before):
    """What a filter of a size sees at every step of a track, zero beyond its ends."""
    padded = np.concatenate([np.zeros(before), track, np.zeros(size)])
    return np.stack([padded[j : j + size] for j in range(len(track))])


def mixture(layer, weights, head, query, source, kept):
    said = np.maximum(query @ weights["hidden_kernel"][:, head], 0)
    said = np.einsum("d,dkn->kn", said, weights["kernel"][head]) + weights["bias"][head]
    offset, scale = said[:, 1] + layer.init_offset_bias, softplus(said[:, 2] + layer.init_scale_bias)
    bound = 0 if layer.max_offset is None else softplus(offset - layer.max_offset)
    center = (kept if layer.monotonic and kept is not None else 0) + softplus(offset) - bound
    found = np.zeros(len(source))
    for prior, mean, deviation in zip(softmax(said[:, 0]), center, scale, strict=True):
        around = np.exp(-((np.arange(len(source)) - mean) ** 2) / (2 * deviation**2 + 1e-9))
        found += prior * np.sqrt(2 * np.pi * deviation**2 + 1e-8) * around
    return found, center


def additive(layer, weights, head, query, source, kept, location=0):
    keys = source @ weights["key_kernel"][:, head] + weights["key_bias"][head]
    hidden = np.tanh(query @ weights["query_kernel"][:, head] + keys + location)
    return softmax(hidden @ weights["score_kernel"][head]), None


def location(layer, weights, head, query, source, kept):
    size = layer.location_filter_size
    valid = layer.location_filter_padding == "valid"
    last, total = kept or (np.eye(len(source))[0], np.eye(len(source))[0])
    seen = np.stack([beside(track, size, 0 if valid else (size - 1) // 2) for track in (last, total)])
    features = np.einsum("ajk,kaf->jf", seen, weights["filter_kernel"][:, :, head])
    if valid:
        features[max(0, len(source) - size + 1) :] = 0
    found, _ = additive(layer, weights, head, query, source, None, features @ weights["location_kernel"][head])
    return found, (found, total + found)


def dynamic(layer, weights, head, query, source, kept):
    steps, last = layer.max_forward_step, np.eye(len(source))[0] if kept is None else kept
    seen = beside(last, 2 * steps + 1, steps)
    filters = np.tanh(query @ weights["hidden_kernel"][:, head] + weights["hidden_bias"][head])
    filters = (filters @ weights["filter_kernel"][head]).reshape(2 * steps + 1, -1)
    features = np.concatenate([seen @ weights["static_filters"][:, head], seen @ filters], axis=1)
    hidden = np.tanh(features @ weights["location_kernel"][head] + weights["bias"][head])
    moved = np.convolve(last, beta_binomial(steps, layer.prior_alpha, layer.prior_beta))[: len(source)]
    found = softmax(hidden @ weights["score_kernel"][head] + np.log(np.maximum(moved, 1e-6)))
    return found, found


ORACLES = {
    kseq.GmmAttention: mixture,
    kseq.AdditiveAttention: additive,
    kseq.LocationSensitiveAttention: location,
    kseq.DynamicConvolutionAttention: dynamic,
}


def by_definition(layer, x, source):
    weights = {w.name: numpy(w).astype("float64") for w in layer.weights}
    attend = functools.partial(ORACLES[type(layer)], layer, weights)
    y = np.zeros((BATCH, TIME, layer.num_heads, 5))
    for row in range(BATCH):
        values = source.values[row][source.mask[row]].astype("float64")
        for head in range(layer.num_heads if len(values) else 0):
            kept = None
            for step in np.flatnonzero(x.mask[row]):
                alignment, kept = attend(head, x.values[row, step].astype("float64"), values, kept)
                y[row, step, head] = alignment @ values
    return y


@every_layer
def test_the_definition(make):
    layer, x, source = drawn(make)
    wanted = by_definition(layer, x, source)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(whole(layer, x, source), wanted, atol=1e-5)
    for chunks in ([1] * TIME, [2, 3, 1]):
        np.testing.assert_allclose(stepped(layer, x, source, chunks), wanted, atol=1e-5)


@every_layer
def test_invalid_steps_of_the_source_are_as_if_absent(make):
    layer, x, source = drawn(make)
    wanted = whole(layer, x, source)
    spread = np.full((BATCH, SIZE + 4, 5), np.nan, "float32")
    mask = np.zeros((BATCH, SIZE + 4), bool)
    places = [np.r_[1:5, 6:9], np.r_[3, 4, 7, 10], np.r_[10], np.r_[[]].astype(int)]
    for row, at in enumerate(places):
        spread[row, at], mask[row, at] = source.values[row, : len(at)], True
    found = whole(layer, x, kseq.Sequence(spread, mask))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not found[3].any()


@every_layer
def test_the_weights_stand_where_the_source_has_its_steps(make):
    """The second output: with them the source's own values give the first one, in both modes; also through holes."""
    layer, x, source = drawn(make, return_attention_scores=True)
    source = kseq.Sequence(source.values, source.mask[:, [0, 6, 1, 5, 2, 4, 3]])
    context = {"source": source}
    with transforms.no_gradients():
        y, weights = layer(x, context=context)
        state = layer.initial_state(BATCH, kseq.SequenceSpec((4,)), context)
        assert [spec.shape for spec in layer.output_spec(kseq.SequenceSpec((4,)))] == [(2, 5), (2, None)]
        found, start = [], 0
        for size in (1, 3, 2):
            parts, state = layer.step(x.slice_time(start, start + size), state)
            start += size
            found.append(parts)
    for number, whole_sequence in enumerate((y, weights)):
        steps = kseq.Sequence.concatenate([parts[number] for parts in found])
        np.testing.assert_allclose(*(numpy(z.mask_invalid().values) for z in (steps, whole_sequence)), atol=1e-5)
    read = np.where(source.mask[:, :, None], source.values, 0)
    np.testing.assert_allclose(np.einsum("bths,bsc->bthc", numpy(weights.values), read), numpy(y.values), atol=1e-5)
    assert not numpy(weights.values).transpose(0, 3, 1, 2)[~source.mask].any()
    wanted = whole(drawn(make)[0], x, source)
    np.testing.assert_allclose(numpy(y.mask_invalid().values), wanted, atol=1e-6)


def test_the_weights_of_many_steps_are_made_in_parts():
    """Beyond 512 steps: what the parts give is what fewer steps give by themselves."""
    layer, *_ = drawn(LAYERS["additive"])
    rng = np.random.default_rng(1)
    x, source = rng.normal(size=(1, 600, 4)).astype("float32"), {"source": rng.normal(size=(1, 3, 5)).astype("float32")}
    with transforms.no_gradients():
        y = numpy(layer(x, context=source))
        for cut in (slice(0, 300), slice(300, 600)):
            np.testing.assert_allclose(numpy(layer(x[:, cut], context=source)), y[:, cut], atol=1e-6)


def test_whether_weights_are_given_is_a_bool():
    with pytest.raises(TypeError, match="`return_attention_scores` must be a bool; received 1"):
        kseq.AdditiveAttention(2, 3, return_attention_scores=1)


@every_layer
def test_a_source_without_a_mask_or_without_steps(make):
    layer, x, source = drawn(make)
    plain = source.values
    all_valid = kseq.Sequence(plain, np.ones(plain.shape[:2], bool))
    np.testing.assert_allclose(whole(layer, x, plain), whole(layer, x, all_valid), atol=1e-6)
    assert not whole(layer, x, plain[:, :0]).any()


@every_layer
def test_a_model_streams_and_is_saved(make, tmp_path):
    """Behind a layer with latency, whose warm-up must move nothing."""
    _, x, source = drawn(make)
    inputs, text = keras.Input((None, 4), name="x"), keras.Input((None, 3), name="text")
    encoded = kseq.Dense(5)(text)
    y = make(source="text")(kseq.Conv1D(4, 3, padding="reverse_causal")(inputs), context={"text": encoded})
    model = keras.Model([inputs, text], kseq.Dense(2)(kseq.Flatten()(y)))
    given = [x.values, np.array(source.values[:, :, :3])]
    wanted = numpy(model(given))
    model.save(tmp_path / "model.keras")
    for found in (model, keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(numpy(found(given)), wanted, atol=1e-6)
    stream = kseq.Stream(found, BATCH, context={"text": given[1]})
    parts = [stream.push(given[0][:, :1]), stream.push(given[0][:, 1:]), stream.flush()]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, atol=1e-5)


def test_a_model_of_any_number_of_steps_trains():
    x, text = keras.Input((None, 4), name="x"), keras.Input((None, 5), name="text")
    y = x
    for name in ("mixture", "location", "dynamic"):
        y = kseq.Dense(4)(kseq.Flatten()(LAYERS[name]()(y, context={"source": text})))
    model = keras.Model([x, text], y)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(8, 5, 4)).astype("float32"), rng.normal(size=(8, 6, 5)).astype("float32")]
    history = model.fit(given, given[0] * 0 + 0.5, epochs=6, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(history).all() and history[-1] < history[0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_alignments_are_kept_precisely_in_half_precision(policy):
    """Many short steps, each of which would be lost if it were added to a sum in half precision."""
    layer = kseq.GmmAttention(1, 1, 1, use_bias=False, init_offset_bias=-3.0, dtype=policy)
    layer.build((1, 1, 1), context_shape={"source": (1, 64, 1)})
    layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    state = layer.initial_state(
        1, kseq.SequenceSpec((1,), layer.compute_dtype), {"source": np.ones((1, 64, 1), "float32")}
    )
    _, state = layer.step(np.ones((1, 1000, 1), layer.compute_dtype if policy == "mixed_float16" else "float32"), state)
    np.testing.assert_allclose(numpy(state["alignment"]["position"]).item(), 1000 * softplus(-3.0), rtol=1e-4)


@every_layer
def test_a_state_goes_on_and_back(make):
    layer, x, source = drawn(make)
    spec, wanted = kseq.SequenceSpec((4,)), whole(layer, x, source)
    state = layer.initial_state(BATCH, spec, {"source": source})
    with transforms.no_gradients():
        _, after = layer(x.slice_time(0, 2), initial_state=state, return_state=True)
        y, _ = layer(x.slice_time(2, None), initial_state=after, return_state=True)
        np.testing.assert_allclose(numpy(y.mask_invalid().values), wanted[:, 2:], atol=1e-5)
        if layer.moves:
            with pytest.raises(ValueError, match="cannot be rolled back: its state keeps nothing of the alignments"):
                layer.rollback(after, 1)
        else:
            y, _ = layer.step(x.slice_time(1, None), layer.rollback(after, 1))
            np.testing.assert_allclose(numpy(y.mask_invalid().values), wanted[:, 1:], atol=1e-5)


def test_a_mixture_moves_on_and_never_back():
    layer, x, source = drawn(LAYERS["mixture"])
    state = layer.initial_state(BATCH, kseq.SequenceSpec((4,)), {"source": source})
    before = numpy(state["alignment"]["position"])
    for step in range(TIME):
        _, state = layer.step(x.slice_time(step, step + 1), state)
        after = numpy(state["alignment"]["position"])
        np.testing.assert_array_equal(after == before, ~x.mask[:, step, None, None] & np.ones_like(after, bool))
        assert (after >= before).all()
        before = after


def test_the_prior_is_a_distribution():
    for n, alpha, beta in ((10, 0.1, 0.9), (1, 1.0, 1.0), (4, 2.0, 0.5)):
        found = np.array(beta_binomial(n, alpha, beta))
        np.testing.assert_allclose(found.sum(), 1)
        np.testing.assert_allclose((found * np.arange(n + 1)).sum(), n * alpha / (alpha + beta))


@pytest.mark.parametrize(
    ("context", "match"),
    [
        (None, "must be a dict of source; received none"),
        ({"text": np.zeros((2, 3, 5))}, "must be a dict of source; received text"),
        ({"source": np.zeros((2, 3, 4))}, r"must have 5 channels; received shape \(2, 3, 4\)"),
        ({"source": np.zeros((3, 3, 5))}, r"must have 2 rows, as the input has; received shape \(3, 3, 5\)"),
        ({"source": np.zeros((2, 5))}, r"must have the shape \[batch, time, channels\]; received \(2, 5\)"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(context, match):
    layer, x, _ = drawn(LAYERS["additive"])
    with pytest.raises(ValueError, match=match):
        layer(x.values[:2], context=context)
    with pytest.raises(ValueError, match=match):
        layer.initial_state(2, kseq.SequenceSpec((4,)), context)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: kseq.GmmAttention(0, 3, 2), "`num_heads` must be an integer of at least 1; received 0"),
        (lambda: kseq.GmmAttention(1, 3, 0), "`num_components` must be an integer of at least 1; received 0"),
        (lambda: kseq.GmmAttention(1, 3, 2, max_offset=-1), "`max_offset` must be positive, .* received -1"),
        (lambda: kseq.AdditiveAttention(1, True), "`key_dim` must be an integer of at least 1; received True"),
        (lambda: kseq.AdditiveAttention(1, 2, source=""), "`source` must be a name in the context; received ''"),
        (
            lambda: kseq.LocationSensitiveAttention(1, 2, 2, 3, "causal"),
            "must be one of same, valid; received 'causal'",
        ),
        (lambda: kseq.DynamicConvolutionAttention(1, 2, prior_beta=0), "`prior_beta` must be positive; received 0"),
        (lambda: kseq.DynamicConvolutionAttention(1, 2, 0), "`max_forward_step` must be an integer of at least 1"),
        (lambda: kseq.AdditiveAttention(1, 2).build((1, 2, 3)), "is built by a call with its context, or by"),
        (lambda: kseq.AdditiveAttention(1, 2).output_spec(kseq.SequenceSpec((3,))), "knows once it is built"),
    ],
)
def test_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_the_layer_of_keras_of_that_name_is_another():
    theirs = keras.layers.AdditiveAttention()
    with pytest.raises(ValueError, match=r"must have `num_heads` .*keras\.layers\.AdditiveAttention is another layer"):
        kseq.AdditiveAttention.from_config(theirs.get_config())
    query, value = keras.Input((None, 3)), keras.Input((None, 3), name="value")
    assert kseq.streamable(keras.Model([query, value], theirs([query, value]))).context_names == ("value",)
    ours = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kseq.AdditiveAttention(1, 2)))
    assert type(ours) is kseq.AdditiveAttention
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(theirs))
    assert type(again) is keras.layers.AdditiveAttention
    for name in ("AdditiveAttention", "keras.AdditiveAttention"):
        with pytest.raises(kseq.SpecError):
            kseq.load_spec(
                {"kseq": 1, "input": {"shape": [None, 3]}, "layers": [{name: {"num_heads": 1, "key_dim": 2}}]}
            )
