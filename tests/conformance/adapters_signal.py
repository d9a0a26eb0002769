"""The reference's frames, spectra and shifts in time."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
from reference import DEVIATIONS, Plan, _options, _own_policy, _reference, _Unsupported

_FRAMES = "Frame", "STFT"


def _padding_of(config):
    return config.get("padding", config.get("time_padding", "reverse_causal_valid"))


def _is_same_as_a_pair(name, config):
    """Whether `same` is another thing in Keras: there its padding depends on the length."""
    return name in _FRAMES and _padding_of(config) == "same" and config["frame_step"] > 1


DEVIATIONS += [
    # What the reference refuses to step kseq steps.
    (_is_same_as_a_pair, ("supports_step", "input_latency", "output_latency")),
    # The latency of what does not step means nothing.
    (lambda name, config: name in _FRAMES and _padding_of(config) == "semicausal_full", ("input_latency",)),
    # One field for all phases, where they differ; of spectra one that was measured on other outputs than there are.
    (
        lambda name, config: name == "OverlapAdd" and config.get("padding") == "semicausal_full",
        ("receptive_field_per_step",),
    ),
    (
        lambda name, config: name == "InverseSTFT" and config.get("time_padding") == "semicausal_full",
        ("receptive_field", "receptive_field_per_step"),
    ),
    # The invalid steps at the end are outputs of layer mode, and wait for as many inputs.
    (lambda name, config: name == "Lookahead" and config.get("preserve_length_in_layer"), ("input_latency",)),
]


def _policy(spec):
    """The policy of a layer without weights, of complex input too: as precise as its input."""
    return "float64" if spec.dtype == "complex128" else _own_policy(spec)


def _frames(options, name):
    """The padding of frames in kseq's words."""
    padding = options.pop("time_padding", None) or options.pop("padding", None)
    if _is_same_as_a_pair(name, options | {"padding": padding}):
        reach = options["frame_length"] - 1
        padding = reach // 2, reach - reach // 2
    return options | {"padding": tuple(padding) if isinstance(padding, list) else padding}


def _window_function(value):
    """The reference's window function, by default a periodic hann window, in kseq's words."""
    if value is None:
        return None
    if set(value) == {"window"} and value["window"] in ("hann", "hamming"):
        return value["window"]
    if value.get("window") in ("inverse_hann", "inverse_hamming"):
        return ("inverse_stft", value["frame_step"], value["window"].removeprefix("inverse_"))
    raise _Unsupported(f"window_fn={value!r}")


_HANN = {"window": "hann"}


@_reference("Frame")
def _frame(config, spec, name):
    options = _options(
        config,
        {
            "frame_length": None,
            "frame_step": None,
            "padding": "reverse_causal_valid",
            # Whether warm-up is marked invalid, which here it always is.
            "explicit_padding_is_same_like": False,
        },
    )
    del options["explicit_padding_is_same_like"]
    return kseq.Frame(**_frames(options, name), dtype=_policy(spec)), Plan()


@_reference("OverlapAdd")
def _overlap_add(config, spec, name):
    options = _options(config, {"frame_length": None, "frame_step": None, "padding": "valid"})
    return kseq.OverlapAdd(**options, dtype=_policy(spec)), Plan()


@_reference("STFT", "InverseSTFT")
def _stft(config, spec, name):
    supported = {"frame_length": None, "frame_step": None, "fft_length": None, "window_fn": _HANN}
    supported |= {"fft_padding": "right"}
    if name == "STFT":
        supported |= {"time_padding": "reverse_causal_valid", "output_magnitude": False}
    else:
        supported |= {"time_padding": "causal"}
    options = _options(config, supported)
    options["window_function"] = _window_function(options.pop("window_fn"))
    if options.pop("output_magnitude", False):
        options["mode"] = "magnitude"
    return getattr(kseq, name)(**_frames(options, name), dtype=_policy(spec)), Plan()


@_reference("FFT", "IFFT", "RFFT", "IRFFT")
def _fft(config, spec, name):
    supported = {"fft_length": None, "axis": -1, "padding": "right"}
    if name.startswith("I"):
        supported |= {"frame_length": None}
    options = _options(config, supported)
    if name == "IFFT":
        options["fft_length"] = None  # which the reference ignores
    return getattr(kseq, name)(**options, dtype=_policy(spec)), Plan()


@_reference("LinearToMelSpectrogram")
def _mel(config, spec, name):
    names = "num_mel_bins", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"
    return kseq.LinearToMelSpectrogram(**_options(config, dict.fromkeys(names)), dtype=_policy(spec)), Plan()


@_reference("Window")
def _window(config, spec, name):
    options = _options(config, {"axis": None, "window_fn": _HANN})
    function = _window_function(options["window_fn"])
    return kseq.ApplyWindow(options["axis"], function, dtype=_policy(spec)), Plan()


@_reference("Delay")
def _delay(config, spec, name):
    return kseq.Delay(**_options(config, {"length": None, "delay_layer_output": True}), dtype=_policy(spec)), Plan()


@_reference("Lookahead")
def _lookahead(config, spec, name):
    options = _options(config, {"length": None, "preserve_length_in_layer": False})
    return kseq.Lookahead(**options, dtype=_policy(spec)), Plan()
