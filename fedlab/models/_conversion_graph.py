"""The calls of a Functional model's layers, in the notations of Keras 2 and Keras 3.

Both versions save, for each layer, the calls that make up the model: a nested structure
of references to the outputs of other calls. They differ in four ways.

    calls             Keras 2 saves the first argument and names the others. Keras 3 saves
                      positional and named arguments.
    nested models     In Keras 2 the calls of a nested model are counted from one. In
                      Keras 3 they are counted from zero, but from one in the list of
                      the outer model's outputs.
    masks             Keras 3 saves the operations that compute masks, and passes masks as
                      arguments. Keras 2 computes them when a layer is called.
    initial states    Keras 2 appends the initial states of a recurrent layer to its
                      inputs.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fedlab.models import _conversion_tables as tables


class Ref(NamedTuple):
    """Output number `tensor` of call number `call` of a layer; calls count from zero."""

    layer: str
    call: int
    tensor: int


class Call(NamedTuple):
    """The arguments of one call: nested structures with `Ref` leaves."""

    inputs: Any
    others: dict[str, Any]

    def refs(self) -> Iterator[Ref]:
        """Iterates over the references, in the order in which Keras visits them."""
        yield from leaves(self.inputs)
        for name in sorted(self.others):
            yield from leaves(self.others[name])


class Graph(NamedTuple):
    """A Functional model.

    Attributes:
      calls: layer name -> its calls; none for an InputLayer.
      inputs, outputs: nested structures of `Ref`.
    """

    calls: dict[str, list[Call]]
    inputs: Any
    outputs: Any


class GraphError(ValueError):
    """The calls of a model cannot be converted. The message says which, and why."""


def leaves(value: Any) -> Iterator[Ref]:
    """Iterates over the references in a nested structure."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for name in sorted(value):
            yield from leaves(value[name])
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part)


def _mapped(value: Any, change: Callable[[Ref], Any]) -> Any:
    if isinstance(value, Ref):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(part, change) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(part, change) for part in value]
    return value


# ---- Keras 2 ----


def read_keras2(config: Mapping[str, Any]) -> Graph:
    """Returns the graph of a Functional model of Keras 2."""
    layers = {layer["name"]: layer for layer in config["layers"]}
    first = {name: first_call_keras2(layer) for name, layer in layers.items()}

    def ref(leaf):
        name, call, tensor = leaf[:3]
        if name not in layers:
            raise GraphError(f"layer {name!r:.100}: expected a layer of the model")
        return Ref(name, call - first[name], tensor)

    def inputs(value):
        if _is_leaf(value, (3, 4)):
            return ref(value)
        if isinstance(value, dict):
            return {name: inputs(part) for name, part in value.items()}
        if isinstance(value, list):
            return [inputs(part) for part in value]
        raise GraphError(f"{value!r:.100}: expected the output of a layer")

    def argument(value):
        if _is_leaf(value, (3,)) and value[0] in layers:
            return ref(value)
        if isinstance(value, dict):
            return {name: argument(part) for name, part in value.items()}
        if isinstance(value, list):
            return [argument(part) for part in value]
        return value

    calls = {}
    for name, layer in layers.items():
        calls[name] = []
        for node in layer.get("inbound_nodes", []):
            others = next(
                (leaf[3] for leaf in _leaves_keras2(node) if len(leaf) == 4 and leaf[3]), {}
            )
            structure = inputs(node)
            if isinstance(structure, list) and len(structure) == 1:
                structure = structure[0]
            calls[name].append(
                Call(structure, {key: argument(value) for key, value in others.items()})
            )
    return Graph(
        calls, *(_single(inputs(config[key])) for key in ("input_layers", "output_layers"))
    )


def write_keras2(graph: Graph, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns `input_layers`, `output_layers`, and per layer its `inbound_nodes`.

    Args:
      graph: the graph.
      layers: layer name -> its configuration in Keras 2.
    """
    first = {name: first_call_keras2(layer) for name, layer in layers.items()}

    def leaf(ref):
        return [ref.layer, ref.call + first[ref.layer], ref.tensor]

    def leaf_with(others, ref):
        return [*leaf(ref), others]

    nodes = {}
    for name, calls in graph.calls.items():
        nodes[name] = []
        for call in calls:
            if isinstance(call.inputs, list) and len(call.inputs) == 1:
                raise GraphError(
                    f"layer {name!r}: it is called on a list of one tensor, which Keras 2 cannot "
                    "save; call it on the tensor"
                )
            others = {key: _mapped(value, leaf) for key, value in call.others.items()}
            node = _mapped(call.inputs, functools.partial(leaf_with, others))
            is_single = isinstance(call.inputs, Ref) and not is_operation(layers[name])
            nodes[name].append([node] if is_single else node)
    return {
        "inbound_nodes": nodes,
        "input_layers": _listed(_mapped(graph.inputs, leaf), graph.inputs),
        "output_layers": _listed(_mapped(graph.outputs, leaf), graph.outputs),
    }


def first_call_keras2(layer: Mapping[str, Any]) -> int:
    """Returns the number of a layer's first call in a file of Keras 2.

    Models that start with an InputLayer have been called once before.
    """
    if layer["class_name"] in ("Functional", "Model"):
        return 1
    if layer["class_name"] != "Sequential":
        return 0
    inner = layer["config"]
    inner = inner["layers"] if isinstance(inner, dict) else inner
    return int(bool(inner) and inner[0]["class_name"] == "InputLayer")


def _leaves_keras2(node):
    if _is_leaf(node, (3, 4)):
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _leaves_keras2(part)


def _is_leaf(value, sizes):
    return (
        isinstance(value, list)
        and len(value) in sizes
        and isinstance(value[0], str)
        and all(type(part) is int for part in value[1:3])
    )


def _single(value):
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _listed(value, of):
    return [value] if isinstance(of, Ref) else value


# ---- Keras 3 ----


def read_keras3(config: Mapping[str, Any]) -> Graph:
    """Returns the graph of a Functional model of Keras 3, without the masks.

    The operations that compute the masks of Embedding and Masking layers are left out.
    """
    layers = {layer["name"]: layer for layer in config["layers"]}

    def ref(name, call, tensor):
        if name not in layers:
            raise GraphError(f"layer {name!r:.100}: expected a layer of the model")
        return Ref(name, call, tensor)

    def argument(value):
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return ref(*value["config"]["keras_history"])
        if isinstance(value, dict) and value.get("class_name") == "__tuple__":
            return argument(list(value["config"]["value"]))
        if isinstance(value, dict) and value.get("class_name") == "__slice__":
            return {part: value["config"].get(part) for part in ("start", "stop", "step")}
        if isinstance(value, dict) and isinstance(value.get("class_name"), str):
            raise GraphError(f"argument {value['class_name']!r:.100}: expected numbers or tensors")
        if isinstance(value, dict):
            return {name: argument(part) for name, part in value.items()}
        if isinstance(value, list):
            return [argument(part) for part in value]
        return value

    def outer(value):
        if _is_leaf(value, (3,)):
            name, call, tensor = value
            shifted = layers.get(name, {}).get("class_name") == "Functional"
            return ref(name, call - shifted, tensor)
        if isinstance(value, dict):
            return {name: outer(part) for name, part in value.items()}
        return [outer(part) for part in value]

    arguments = {
        name: [
            (argument(node["args"]), argument(node["kwargs"]))
            for node in layer.get("inbound_nodes", [])
        ]
        for name, layer in layers.items()
    }
    masks = _mask_operations(layers, arguments)
    for name, layer in layers.items():
        if name not in masks and is_operation(layer) and operation_class(layer) is None:
            raise GraphError(
                f"operation {name!r} ({layer['class_name']}): expected standard layers, or one of "
                f"the operations {', '.join(tables.OPERATIONS)}, which both versions have"
            )
    calls = {
        name: [_call(name, layers[name], *node, masks) for node in nodes]
        for name, nodes in arguments.items()
        if name not in masks
    }
    graph = Graph(calls, outer(config["input_layers"]), outer(config["output_layers"]))
    for found in [
        *leaves(graph.outputs),
        *(each for calls in graph.calls.values() for call in calls for each in call.refs()),
    ]:
        if found.layer in masks:
            raise GraphError(
                f"operation {found.layer!r}: its mask is used as data, which Keras 2 cannot express"
            )
    return graph


def _call(name, layer, args, kwargs, masks):
    class_name = layer["class_name"]
    names = tables.CALLS.get(class_name, ("inputs",))
    if is_operation(layer):
        names = ("inputs", *tables.OPERATIONS[class_name].arguments)
    if not args or len(args) > len(names):
        raise GraphError(
            f"layer {name!r} ({class_name}): it is called with {len(args)} positional arguments; "
            f"expected 1 to {len(names)}"
        )
    others = dict(zip(names[1:], args[1:])) | kwargs
    for key in tables.MASKS & others.keys():
        if all(ref.layer in masks for ref in leaves(others[key])):
            del others[key]  # Keras 2 computes it
    # When Keras 3 calls a model, it passes its own `training` on to every layer.
    others.pop("training", None)
    return Call(args[0], {key: value for key, value in others.items() if value is not None})


def _mask_operations(layers, arguments):
    """The names of the operations that compute the masks of Embedding and Masking layers."""
    sources: dict[str, list[tuple[Ref, Any]]] = {"NotEqual": [], "Any": []}
    for name, layer in layers.items():
        config = layer.get("config") or {}
        for args, _ in arguments[name]:
            if layer["class_name"] == "Embedding" and config.get("mask_zero"):
                sources["NotEqual"].append((args[0], 0))
            if layer["class_name"] == "Masking":
                sources["Any"].append((args[0], config.get("mask_value")))
    compared = {
        name: tuple(arguments[name][0][0])
        for name, layer in layers.items()
        if _is_operation(layer, "NotEqual") and len(arguments[name]) == 1
    }
    found = {name for name, args in compared.items() if args in sources["NotEqual"]}
    for name, layer in layers.items():
        if _is_operation(layer, "Any") and layer["config"].get("axis") == -1:
            of = arguments[name][0][0][0]
            if isinstance(of, Ref) and compared.get(of.layer) in sources["Any"]:
                found |= {name, of.layer}
    return found


def _is_operation(layer, class_name):
    return layer["class_name"] == class_name and str(layer.get("module")).startswith(
        "keras.src.ops."
    )


def write_keras3(graph: Graph, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Does what `write_keras2` does for Keras 3."""

    def tensor(ref):
        # Keras replaces this tensor by the one that `keras_history` names.
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": [*ref]},
        }

    def outer(ref):
        shifted = layers[ref.layer]["class_name"] == "Functional"
        return [ref.layer, ref.call + shifted, ref.tensor]

    return {
        "inbound_nodes": {
            name: [
                {
                    "args": [_mapped(call.inputs, tensor)],
                    "kwargs": {key: _mapped(value, tensor) for key, value in call.others.items()},
                }
                for call in calls
            ]
            for name, calls in graph.calls.items()
        },
        "input_layers": _mapped(graph.inputs, outer),
        "output_layers": _mapped(graph.outputs, outer),
    }


# ---- Operations ----


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Returns whether a layer of a configuration is an operation such as `x + y`."""
    if str(layer.get("module")).startswith("keras.src.ops."):
        return True
    return layer["class_name"] in tables.OPERATION_CLASSES_2


def operation_class(layer: Mapping[str, Any]) -> str | None:
    """Returns the class of an operation in Keras 3, or None if it cannot be converted."""
    if layer["class_name"] in tables.OPERATION_CLASSES_2:
        return tables.OPERATIONS_2.get(str((layer.get("config") or {}).get("function")))
    operation = tables.OPERATIONS.get(layer["class_name"])
    known = operation is not None and layer.get("module") == f"keras.src.ops.{operation.module}"
    return layer["class_name"] if known else None


def with_positions_as_sums(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a model of Keras 2 without ranges, of which Keras 3 has to know the length.

    range(shape(x)[1])   becomes   cumsum(ones_like(x[:1]), axis=1) - 1
    """
    layers = {layer["name"]: dict(layer) for layer in config["layers"]}

    def source(name, function):
        """The input of the only call of an operation, and its other arguments."""
        layer = layers.get(name) or {}
        nodes = layer.get("inbound_nodes") or []
        if (layer.get("config") or {}).get("function") != function or len(nodes) != 1:
            return None, {}
        leaf = next(_leaves_keras2(nodes[0]), None)
        return (leaf[:3], leaf[3] if len(leaf) == 4 else {}) if leaf else (None, {})

    def replaced(name, function, leaf, arguments):
        class_name = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
        layers[name] = {
            "class_name": class_name,
            "config": {"name": name, "function": function},
            "name": name,
            "inbound_nodes": [[*leaf, arguments]],
        }

    for name in list(layers):
        item, _ = source(name, "range")
        shape, spec = source(item[0], "__operators__.getitem") if item else (None, {})
        ids, _ = source(shape[0], "compat.v1.shape") if shape else (None, {})
        if ids is None or spec.get("slice_spec") not in (1, [1]):
            continue
        users = [json.dumps(layer.get("inbound_nodes")) for layer in layers.values()]
        if any(
            sum(text.count(json.dumps(part[0])) for text in users) != 1 for part in (item, shape)
        ):
            continue
        replaced(shape[0], "__operators__.getitem", ids, {"slice_spec": [{"stop": 1}]})
        replaced(item[0], "ones_like", shape, {})
        replaced(f"{name}_sum", "math.cumsum", item, {"axis": 1})
        replaced(name, "math.subtract", [f"{name}_sum", 0, 0], {"y": 1})
    return {**config, "layers": list(layers.values())}


# ---- Arguments that only one version has ----


def with_states_joined(call: Call) -> Call:
    """Returns a call of a recurrent layer with the initial states after the inputs."""
    states = call.others.get("initial_state")
    if states is None:
        return call
    others = {key: value for key, value in call.others.items() if key != "initial_state"}
    return Call([call.inputs, *leaves(states)], others)


def with_states_named(call: Call) -> Call:
    """Does the opposite of `with_states_joined`."""
    if not isinstance(call.inputs, list):
        return call
    inputs, *states = call.inputs
    return Call(inputs, call.others | {"initial_state": states})


# ---- The order of layers ----


def order(graph: Graph) -> list[str]:
    """Returns the layers in the order in which Keras lists them, as both versions do.

    The layers that are most calls away from the outputs come first. Layers at the same
    distance are in the order in which a depth-first search from the outputs finds them.

    Raises:
      GraphError: a layer does not lead to an output, or there is a cycle.
    """
    finished: list[tuple[str, int]] = []
    index: dict[str, int] = {}
    state: dict[tuple[str, int], bool] = {}  # False while the node's inputs are visited
    for output in leaves(graph.outputs):
        waiting: list[tuple[tuple[str, int], Iterator[Ref] | None]] = [
            ((output.layer, output.call), None)
        ]
        while waiting:
            node, refs = waiting.pop()
            if refs is None:
                if state.get(node):
                    continue
                if node in state:
                    raise GraphError(f"layer {node[0]!r} is part of a cycle")
                state[node] = False
                index.setdefault(node[0], len(index))
                refs = iter([*_parents(graph, node)])
            following = next(refs, None)
            if following is None:
                state[node] = True
                finished.append(node)
            else:
                waiting += [(node, refs), ((following.layer, following.call), None)]
    depth_of_node: dict[tuple[str, int], int] = {}
    depth: dict[str, int] = {}
    for node in reversed(finished):
        here = max(depth_of_node.get(node, 0), depth.get(node[0], 0))
        depth[node[0]] = depth_of_node[node] = here
        for parent in _parents(graph, node):
            key = (parent.layer, parent.call)
            depth_of_node[key] = max(here + 1, depth_of_node.get(key, 0))
    for unused in leaves(graph.inputs):
        if unused.layer not in depth:
            depth[unused.layer], index[unused.layer] = 0, -1
    if missing := [name for name in graph.calls if name not in depth]:
        raise GraphError(f"layer {missing[0]!r} does not lead to an output of the model")
    return sorted(depth, key=lambda name: (-depth[name], index[name]))


def _parents(graph, node):
    name, call = node
    if name not in graph.calls:
        raise GraphError(f"layer {name!r:.100}: expected a layer of the model")
    calls = graph.calls[name]
    if not calls and call == 0:
        return []  # an InputLayer
    if not 0 <= call < len(calls):
        raise GraphError(f"layer {name!r} has {len(calls)} calls, of which number {call} is used")
    return calls[call].refs()


def ancestors(graph: Graph, name: str) -> set[str]:
    """Returns the names of all layers whose outputs a layer depends on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for call in graph.calls[waiting.pop()]:
            for ref in call.refs():
                if ref.layer not in found:
                    found.add(ref.layer)
                    waiting.append(ref.layer)
    return found
