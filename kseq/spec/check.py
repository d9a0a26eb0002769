"""The positioned tree to a plan: names, arguments, variables, blocks and limits checked, all problems gathered."""

from ..version import __version__
from .calls import CallPlanner
from .errors import Collector, shorten, shown
from .forms import check_keys
from .inputs import plan_inputs
from .kinds import BOOLEAN, NAME
from .layer_plans import LayerPlanner
from .migrations import VERSION, migrate
from .node import Limits, Node
from .plan import SpecPlan
from .replaced import Replaced
from .training import plan_compile
from .variables import Variables

_SECTIONS = (
    *("kseq", "name", "vars", "blocks"),
    *("input", "inputs", "inputs_by_name"),
    *("layers", "outputs", "compile"),
)


def check(
    tree: Node, problems: Collector, limits: Limits, variables: Node | None = None, arguments: Node | None = None
) -> SpecPlan:
    """The plan of a spec's tree, without the layers that are wrong: what is wrong with them is in `problems`.

    Args:
        tree: as read.
        problems: the collector that goes with it.
        limits: how large the model may be.
        variables: a tree of values that replace those of `vars`.
        arguments: a tree of values that replace arguments, by the name of a layer and of the argument.

    Raises:
        SpecError: what makes the rest meaningless, and limits.
    """
    tree = _current(tree, problems)
    meant = check_keys(tree, _SECTIONS, "", problems)
    parts = tree.value
    known = Variables(problems, limits)
    known.define(parts.get("vars"), variables)

    def section(key):
        return known.put_in(parts[key], key) if key in parts else None

    name = section("name")
    layers = LayerPlanner(problems, limits, known, Replaced(arguments, known))
    layers.define_blocks(parts.get("blocks"))
    inputs = plan_inputs(tree, meant, known, layers.values)
    planner = CallPlanner(layers, inputs)
    if "layers" in parts:
        planner.plan(known.put_in(parts["layers"], "layers"))
    elif "layers" not in meant:
        problems.add("the key `layers` is missing", tree)
    layers.check_unused_blocks()
    layers.replaced.check_used()
    _check_names(planner.calls, inputs, problems)
    outputs = planner.outputs(section("outputs"))
    by_name = section("inputs_by_name")
    return SpecPlan(
        name="model" if name is None else layers.values.value(NAME, name, "name"),
        inputs=inputs,
        inputs_by_name=by_name is not None and layers.values.value(BOOLEAN, by_name, "inputs_by_name"),
        calls=planner.calls,
        outputs=outputs,
        compile=plan_compile(section("compile"), layers.values, outputs, planner.output_names(outputs)),
        node=name or tree,
        compile_node=parts.get("compile"),
    )


def _current(tree: Node, problems: Collector) -> Node:
    """The tree in the format's version of today."""
    if not isinstance(tree.value, dict):
        message = f"a spec is a mapping with the keys kseq, input and layers; received {shown(tree.value)}"
        hint = "a path ends in .yaml, .yml or .json, or is a pathlib.Path" if isinstance(tree.value, str) else None
        problems.stop(message, tree, hint=hint)
    node = tree.value.get("kseq")
    if node is None:
        problems.stop("the key `kseq` is missing", tree, hint=f"begin with `kseq: {VERSION}`")
    version = node.value
    if type(version) is not int or version < 1:
        problems.stop(f"must be the format's version, {VERSION}; received {shown(version)}", node, "kseq")
    if version > VERSION:
        message = f"the format's version {version} needs a newer kseq; this one ({__version__}) reads up to {VERSION}"
        problems.stop(message, node, "kseq", hint="pip install --upgrade kseq")
    return migrate(tree, version)


def _check_names(calls, inputs, problems):
    """Checks that names that are given to inputs, their masks and layers are given once."""
    taken = {}

    def take(name, owner, place, path):
        if name in taken:
            problems.add(f"the name `{shorten(name)}` is taken by {taken[name]}", place, path)
        elif name is not None:
            taken[name] = owner

    for plan in inputs:
        take(plan.name, plan.path, plan.node, plan.path)
    for plan in inputs:
        take(plan.mask_name, f"{plan.path}.mask", plan.node, f"{plan.path}.mask")
    for call in calls:
        if call.layer is not None:
            name, place = call.layer.arguments.get("name"), call.layer.places.get("name")
            take(name, call.path, place, f"{call.path}.name")
