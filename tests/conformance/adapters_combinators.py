"""Combinators of the reference."""

import dataclasses
from collections.abc import Callable

from reference import Implementation, Plan, _make, _options, _own_policy, _reference

import kseq

# Options that say how the reference compiles: the numbers are the same.
_COMPILATION = dict.fromkeys(("prevent_cse", "policy", "unroll_layer", "unroll_step"))


@dataclasses.dataclass
class _Shared:
    """A plan whose layer is a child, and whose weights are where the parent's are."""

    find: Callable
    plan: Plan
    implementation: type = Implementation

    def bind(self, layer, path, index):
        yield from self.plan.bind(self.find(layer), path, index)


class _Several:
    """Several plans of one layer."""

    implementation = Implementation

    def __init__(self, *plans):
        self.plans = plans

    def bind(self, layer, path, index):
        for plan in self.plans:
            yield from plan.bind(layer, path, index)


def _make_chain(nodes, spec):
    """Layers one after the other: (layers, plans)."""
    made = []
    for node in nodes:
        made.append(_make(node, spec))
        spec = made[-1][0].output_spec(spec)
    return [layer for layer, _ in made], [plan for _, plan in made]


def _children(nodes, plans, attribute, share_scope=False, prefix="layers_"):
    """A plan of children in an attribute of the layer: by their names, by their numbers, or in the parent's scope."""
    shared = list(share_scope) if isinstance(share_scope, (list, tuple)) else [share_scope] * len(nodes)
    found = []
    for i, (node, plan, share) in enumerate(zip(nodes, plans, shared, strict=True)):

        def find(layer, i=i):
            return getattr(layer, attribute)[i]

        name = node["config"].get("name") or f"{prefix}{i}"
        found.append(_Shared(find, plan) if share else Plan(children=[(name, (), find, plan)]))
    return _Several(*found)


def _combination(options):
    return options["combination"]["combine"].lower()


@_reference("Serial", "Identity")
def _serial(config, spec, name):
    options = _options(config, {"layers": [], "share_scope": False} if name == "Serial" else {})
    nodes = options.get("layers", [])
    layers, plans = _make_chain(nodes, spec)
    plan = _children(nodes, plans, "layers", options.get("share_scope", False))
    return kseq.Serial(layers, dtype=_own_policy(spec)), plan


@_reference("Residual")
def _residual(config, spec, name):
    options = _options(config, {"layers": [], "shortcut_layers": None, "share_scope": False})
    nodes, shortcut_nodes = options["layers"], options["shortcut_layers"] or []
    layers, plans = _make_chain(nodes, spec)
    shortcut, shortcut_plans = _make_chain(shortcut_nodes, spec)
    plan = _Several(
        _children(nodes, plans, "layers", options["share_scope"]),
        Plan(children=[("shortcut_layer", (), _itself, _children(shortcut_nodes, shortcut_plans, "shortcut_layers"))]),
    )
    return kseq.Residual(layers, shortcut, dtype=_own_policy(spec)), plan


def _itself(layer):
    return layer


_STACK = {"combine": "STACK"}


@_reference("Parallel")
def _parallel(config, spec, name):
    options = _options(config, {"layers": [], "combination": _STACK, "share_scope": False})
    made = [_make(node, spec) for node in options["layers"]]
    layer = kseq.Parallel([layer for layer, _ in made], combination=_combination(options), dtype=_own_policy(spec))
    return layer, _children(options["layers"], [plan for _, plan in made], "layers", options["share_scope"])


@_reference("ParallelChannels")
def _parallel_channels(config, spec, name):
    options = _options(config, {"child_layer": None, "num_groups": None, "combination": _STACK})
    groups = options["num_groups"]
    given = kseq.SequenceSpec((*spec.shape[:-1], spec.shape[-1] // groups), spec.dtype)
    child, plan = _make(options["child_layer"], given)
    layer = kseq.ParallelChannels(child, groups, _combination(options), dtype=_own_policy(spec))
    return layer, _Shared(lambda layer: layer.layer, plan)


@_reference("Bidirectional")
def _bidirectional(config, spec, name):
    options = _options(config, {"forward": None, "backward": None, "combination": _STACK})
    (forward, forward_plan), (backward, backward_plan) = (_make(options[key], spec) for key in ("forward", "backward"))
    layer = kseq.Bidirectional(forward, _combination(options), backward, dtype=_own_policy(spec))
    children = [
        ("forward", (), lambda layer: layer.layer, forward_plan),
        ("backward", (), lambda layer: layer.backward_layer, backward_plan),
    ]
    return layer, Plan(children=children)


@_reference("Blockwise")
def _blockwise(config, spec, name):
    options = _options(config, {"child_layer": None, "block_size": None})
    child, plan = _make(options["child_layer"], spec)
    layer = kseq.Blockwise(child, options["block_size"], dtype=_own_policy(spec))
    return layer, _Shared(lambda layer: layer.layer, plan)


@_reference("CheckpointGradient")
def _checkpoint_gradient(config, spec, name):
    options = _options(config, {"layer": None, "share_scope": False} | dict.fromkeys(("prevent_cse", "policy")))
    child, plan = _make(options["layer"], spec)
    layer = kseq.CheckpointGradient(child, dtype=_own_policy(spec))
    if options["share_scope"]:
        return layer, _Shared(lambda layer: layer.layer, plan)
    return layer, Plan(children=[("child_layer", (), lambda layer: layer.layer, plan)])


@_reference("Repeat")
def _repeat(config, spec, name):
    options = _options(config, {"layer": None, "num_repeats": None, "remat": False} | _COMPILATION)
    child, plan = _make(options["layer"], spec)
    layer = kseq.Repeat(child, options["num_repeats"], options["remat"], dtype=_own_policy(spec))
    # The repeats' weights are stacked; the copies that Repeat makes are nowhere public.
    children = [
        ("child_layer", (i,), lambda layer, i=i: layer.sublayers[i], plan) for i in range(options["num_repeats"])
    ]
    return layer, Plan(children=children)
