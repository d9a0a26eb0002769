"""Whether a manifest can be one: a stream makes arrays of the sizes that it says, and looks up the names."""

from collections.abc import Iterator
from typing import Any

from .packed import is_shape, plain_dtype

# Steps of a call, over all rows, of which masks are made before a file says how much there really is.
_MOST = 1 << 28


def problems(manifest: Any) -> Iterator[str]:
    """What is wrong with a `Manifest` that bytes said, a sentence each. Sizes must be those of the golden data."""
    is_step = manifest.mode == "step"
    if manifest.mode not in ("step", "layer"):
        yield f"its mode is {manifest.mode!r}"
    batch, block = manifest.batch_size, manifest.block
    if not is_shape([batch, block]) or not batch or (is_step and not block) or batch * block > _MOST:
        yield f"a call is of {batch} rows of {block} steps"
    if not manifest.inputs or not manifest.outputs:
        yield "it has no inputs or no outputs"
    ports = [*manifest.inputs, *manifest.outputs]
    for tensor in (*ports, *manifest.state):
        plain_dtype(tensor.dtype)
        if not is_shape(tensor.shape):
            yield f"the shape of {tensor.name!r} is {tensor.shape}"
    plain_dtype(manifest.compute_dtype)
    names = [*manifest.input_names, *[name for port in ports for name in (port.name, port.tensor)]]
    names += [name for leaf in manifest.state for name in (leaf.name, leaf.tensor, leaf.new_tensor)]
    masks = [manifest.presence_tensor, *[name for port in ports for name in (port.mask_tensor, port.mask)]]
    names += [name for name in masks if name is not None]
    if wrong := [name for name in names if not isinstance(name, str)]:
        yield f"a name is {wrong[0]!r}"
    if not (manifest.golden_error is None or isinstance(manifest.golden_error, float)):
        yield f"its error is {manifest.golden_error!r}"
    yield from _of_structures(manifest)
    yield from _of_arrays(manifest, is_step)
    if is_step:
        yield from _of_steps(manifest)


def _of_structures(manifest):
    for what, count in (("input", len(manifest.inputs)), ("output", len(manifest.outputs))):
        numbers = list(_leaves(getattr(manifest, f"{what}_structure")))
        if any(type(n) is not int for n in numbers) or sorted(numbers) != list(range(count)):
            yield f"the structure of its {what}s is of {numbers}, and it has {count}"


def _leaves(structure):
    if isinstance(structure, (dict, list, tuple)):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from _leaves(part)
    else:
        yield structure


def _of_arrays(manifest, is_step):
    """What is said of arrays that are there."""
    batch = manifest.batch_size
    if [x.shape for x in manifest.initial_state] != [leaf.shape for leaf in manifest.state]:
        yield "its first state has other shapes than its state"
    if any(leaf.shape[:1] != (batch,) for leaf in manifest.state):
        yield "its state is of other rows"
    given, made = manifest.golden_inputs, manifest.golden_outputs
    if len(given) != len(manifest.takes) or len(made) != len(manifest.gives):
        yield "its golden data is of other tensors"
        return
    time = given[0].shape[1] if given[0].ndim > 1 else 0
    ports = [*[port.shape for port in manifest.inputs], *[()] * (len(given) - len(manifest.inputs))]
    if [x.shape for x in given] != [(batch, time, *shape) for shape in ports]:
        yield "its golden inputs have other shapes than its inputs"
    if (is_step and (not time or time % manifest.block)) or (not is_step and manifest.block not in (0, time)):
        yield f"its golden inputs are of {time} steps"
    if [x.shape[2:] for x in made[: len(manifest.outputs)]] != [port.shape for port in manifest.outputs]:
        yield "its golden outputs have other shapes than its outputs"


def _of_steps(manifest):
    if sorted(manifest.order) != list(range(len(manifest.state))):
        yield f"the order of its state is {manifest.order}"
    if len(manifest.timings) != len(manifest.outputs):
        yield "it has not one timing for each output"
    if any(manifest.block % timing.block_size for timing in manifest.timings):
        yield f"its block is {manifest.block}, and that of its model no part of it"
    for allowed in manifest.allowances:
        if len(allowed.steps) != manifest.batch_size or not is_shape(allowed.steps):
            yield f"{allowed.layer} has room for {allowed.steps} steps"
    if manifest.model.keys() != {"structure", "layers", "weights"}:
        yield "it does not say what its model is"
