"""Shipped specs with few and narrow layers."""

# By name the variables; of the same layers as the large ones.
SMALL = {
    "keyword_spotter": {"channels": 6, "width": 8},
    "tcn": {"width": 8},
    "character_lstm": {"tokens": 16, "width": 4, "units": 4},
    "character_mamba": {"tokens": 16, "width": 4, "depth": 1, "state": 3, "head": 4},
    "character_griffin": {"tokens": 16, "width": 4, "hidden": 6, "heads": 2, "head": 2, "window": 4},
    "streaming_transformer": {"tokens": 16, "width": 8, "heads": 2, "head": 4, "hidden": 16, "window": 8, "depth": 1},
    "conformer": {
        "channels": 6,
        "width": 8,
        "doubled": 16,
        "hidden": 8,
        "heads": 2,
        "head": 4,
        "past": 4,
        "future": 2,
        "depth": 1,
    },
    "denoise_unet": {"fine": 4, "medium": 6, "coarse": 8, "width": 4, "filters": 4, "kernel": 4, "stride": 2},
    "japanese_vowels": {},
    "log_mel": {"frame": 4, "step": 2, "fft": 4, "mels": 2, "rate": 8000, "high": 4000.0},
}
