"""Random networks of every registered layer: the examples of the registry, one after the other, in branches, nested.

A layer that is registered tomorrow is in them without a line here.
"""

from fractions import Fraction

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np

#: Inputs that a network may begin with: channel shape and dtype.
INPUTS = [
    ((3,), "float32"),
    ((4,), "float32"),
    ((2, 3), "float32"),
    ((), "float32"),
    ((), "int32"),
    ((2, 2, 3), "float32"),
]
#: No larger blocks, latencies and rates than tests have patience for.
MOST = {"block": 12, "latency": 40, "rate": 6}
#: Channel axes: with batch and time they are five, the most that softmax of tensorflow's takes on a CPU.
MOST_AXES = 3


class RandomNetwork:
    """A network that steps, made of layers of the registry.

    Args:
        seed: of all that is random but weights.

    Attributes:
        layer: the network.
        spec: of its input.
        parts: names of the classes in it, for a report.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.parts = []
        shape, dtype = INPUTS[self.rng.integers(len(INPUTS))]
        self.spec = kseq.SequenceSpec(shape, dtype)
        layers, spec = [], self.spec
        for _ in range(int(self.rng.integers(2, 6))):
            layer = self.branches(spec) if self.rng.random() < 0.3 else self.one(spec)
            if layer is None or not small(kseq.Serial([*layers, layer]).timing):
                continue
            if len(layer.output_spec(spec).shape) > MOST_AXES:  # of branches that are stacked
                continue
            layers.append(layer)
            spec = layer.output_spec(spec)
        self.layer = kseq.Serial(layers)

    def one(self, spec, ratio=None, wanted=None):
        """A layer that takes `spec`, of a ratio and output spec where these matter; `None` if none was found."""
        found = examples()
        for i in self.rng.permutation(len(found))[:60]:
            cls, place = found[i]
            layer = made(cls, cls.examples()[place], spec)
            if layer is None or not small(layer.timing) or (ratio is not None and layer.timing.ratio != ratio):
                continue
            if wanted is not None and layer.output_spec(spec) != wanted:
                continue
            if layer.weights and spec.dtype.startswith("int") and spec != self.spec:
                continue  # an embedding knows the integers of the input, not those that a layer makes
            self.parts.append(cls.__name__)
            return layer
        return None

    def branches(self, spec):
        """Two branches of one rate and of one shape, of whatever latencies, or a residual one."""
        first = self.one(spec)
        if first is None:
            return None
        if self.rng.random() < 0.5:  # one more, which changes the latency and not the shape
            after = self.one(first.output_spec(spec), Fraction(1), first.output_spec(spec))
            first = first if after is None else kseq.Serial([first, after])
        second = self.one(spec, first.timing.ratio, first.output_spec(spec))
        if second is None or not small(kseq.Parallel([first, second]).timing):
            return first
        if any(first.output_length(n) != second.output_length(n) for n in range(14)):
            return first
        if self.rng.random() < 0.3 and first.output_spec(spec).dtype == "float32":
            return kseq.Residual([first], [second])
        return kseq.Parallel([first, second])


def examples():
    """(class, number) of the examples of every registered layer of the package that steps and reads no context."""
    return [
        (cls, i)
        for name, cls in sorted(kseq.registered_layers().items())
        if "." not in name and cls is not kseq.Cast  # its dtype is the policy, which the contract replaces
        for i, example in enumerate(cls.examples())
        if not example.context
    ]


def made(cls, example, spec):
    """The layer of an example, built for `spec`; `None` where it takes none such, or does not step."""
    try:
        layer = cls(**example.config)
        one_to_one = layer.num_inputs == layer.num_outputs == 1
        if not one_to_one or kind(example.dtype) != kind(spec.dtype):
            return None
        layer.check_rank((None, None, *spec.shape))
        layer.build((None, None, *spec.shape))
        layer.compute_output_spec(keras.KerasTensor((None, None, *spec.shape), spec.dtype))
        # Where values decide what is valid, more depends on them than the values that come of them.
        usable = layer.supports_step and not layer.mask_reads_values
        return layer if usable and len(layer.output_spec(spec).shape) <= MOST_AXES else None
    except (ValueError, TypeError, IndexError):
        return None


def kind(dtype):
    """Whether a dtype is of integers, floats or complex numbers."""
    return dtype.rstrip("0123456789")


def small(timing):
    """Whether a test can have the patience."""
    ratio = timing.ratio
    return (
        timing.block_size <= MOST["block"]
        and max(timing.input_latency, timing.output_latency) <= MOST["latency"]
        and max(ratio.numerator, ratio.denominator) <= MOST["rate"]
    )
