"""Finds what a saved model would run, import or read from other files when Keras rebuilds it.

Keras rebuilds a model from JSON with names of classes and functions. Keras's own classes and
functions are harmless. A Lambda layer contains Python bytecode, and a class of another
module makes Keras import that module. Lookup layers and weight files may refer to other
files, whose contents would become part of the model. Everything that is not known to be
harmless is reported before Keras sees it.
"""

import functools
from typing import Any

import tensorflow as tf

from fedlab.learner import saving
from fedlab.models import graph_ops

# TensorFlow functions that a Functional model may call. They only compute with tensors.
_OP_MODULES = ("math.", "nn.", "linalg.", "signal.", "bitwise.", "__operators__.")
_OPS = frozenset(
    """
    argsort batch_to_space bitcast boolean_mask broadcast_to cast clip_by_global_norm
    clip_by_norm clip_by_value concat convert_to_tensor einsum expand_dims eye fill gather
    gather_nd grad_pass_through identity linspace meshgrid norm one_hot ones ones_like pad range
    rank realdiv repeat reshape reverse reverse_sequence roll scatter_nd searchsorted
    sequence_mask shape shape_n size slice sort space_to_batch split squeeze stack stop_gradient
    strided_slice tensordot tensor_scatter_nd_update tile transpose unstack where zeros
    zeros_like
    """.split()
)
# Settings of layers, KerasHub's tokenizers included, that may be the path of a file.
_FILES = ("vocabulary", "merges", "proto")
# Functions of a table, or of another resource, in a SavedModel.
_RUN_WHILE_LOADING = {"_create_resource", "_initialize", "_destroy_resource"}


def find_code(config: Any) -> str | None:
    """Returns what in a configuration would run code from outside Keras, or read a file.

    Classes and functions that the program has registered with
    `tf.keras.utils.register_keras_serializable` are allowed.

    Args:
      config: parsed JSON.

    Returns:
      A description for an error message, or None if there is no such thing.

    Example:
      >>> find_code({"class_name": "Dense", "config": {"units": 2}})
      >>> find_code([{"class_name": "Lambda", "config": {"name": "f"}}])
      "Lambda layer 'f', which carries Python code"
    """
    return next(filter(None, map(_describe, _objects(config))), None)


def find_other_files(file: Any) -> str | None:
    """Returns what an open `h5py.File` refers to in other files, or None."""
    import h5py

    seen, waiting = set(), [file["/"]]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group may contain itself
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                return f"link to another file, {link.filename!r:.100}"
            if isinstance(link, h5py.SoftLink):
                continue  # its target is visited under its own name
            part = group[name]
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                return f"weight {part.name!r:.100} that is in another file"
    return None


def find_graph_code(saved_model: Any) -> str | None:
    """Does what `find_code` does, for the graphs of a SavedModel protocol buffer.

    Every operation of every graph and function has to be in `graph_ops.HARMLESS`:
    TensorFlow runs some functions while it loads a model, and a loaded model may call any
    of the others. Functions that TensorFlow runs while loading may only handle tables.
    """
    if len(saved_model.meta_graphs) > 1:
        return "second graph, which Keras never saves"
    return next(filter(None, map(_describe_graph, saved_model.meta_graphs)), None)


def _describe_graph(meta_graph):
    graph = meta_graph.graph_def
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    if len(functions) < len(graph.library.function) or functions.keys() & _operations():
        return "function whose name is already taken"
    savers, run = _saver_functions(meta_graph), _functions_run_while_loading(meta_graph, functions)
    for name, nodes in [("", graph.node), *functions.items()]:
        allowed = graph_ops.HARMLESS | graph_ops.SAVER if name in savers else graph_ops.HARMLESS
        for node in nodes:
            if node.op not in allowed:
                return (
                    f"graph operation {node.op!r:.100}, which is not known to leave files and "
                    "other programs alone"
                )
            if name in run and node.op not in graph_ops.WHILE_LOADING:
                return f"graph operation {node.op!r} that would run while the model is loaded"
    return None


@functools.cache
def _operations():
    """The names of all TensorFlow operations. A function with such a name would replace it."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    operations = op_def_pb2.OpList()
    operations.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {operation.name for operation in operations.op}


def _saver_functions(meta_graph):
    """The names of the functions that save and restore the model, if nothing else calls them."""
    saver, stored = meta_graph.saver_def, meta_graph.SerializeToString()
    calls = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    names = {
        node.attr["f"].func.name
        for node in meta_graph.graph_def.node
        if node.name in calls and "f" in node.attr
    }
    # The name occurs twice: in the function itself, and in the call.
    return {name for name in names if name and stored.count(name.encode()) == 2}


def _functions_run_while_loading(meta_graph, functions):
    """The names of the functions that TensorFlow runs while loading, and of those they call.

    They create, fill, save and restore tables.
    """
    nodes = meta_graph.object_graph_def.nodes
    run = [
        edge.node_id
        for node in nodes
        for edge in (*node.children, *node.dependencies)
        if edge.local_name in _RUN_WHILE_LOADING
    ]
    for node in nodes:
        for saveable in node.saveable_objects.values():
            run += [saveable.save_function, saveable.restore_function]
    waiting = []
    for node in (nodes[node_id] for node_id in set(run) if 0 <= node_id < len(nodes)):
        waiting += [
            *node.function.concrete_functions,
            node.bare_concrete_function.concrete_function_name,
        ]
    found = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            waiting += [
                attribute.func.name for node in functions[name] for attribute in node.attr.values()
            ]
    return found


def _objects(config):
    """Iterates over all dicts that name a class, nested ones included."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _describe(item):
    name, config, module = item["class_name"], item.get("config"), item.get("module")
    registered = item.get("registered_name")
    for text in (name, *(value for value in (module, registered) if value is not None)):
        if not isinstance(text, str):
            return f"class whose name is not a text, {text!r:.100}"
    label = config.get("name") if isinstance(config, dict) else None
    plain_name = name.rpartition(">")[2]
    if plain_name in ("Lambda", "__lambda__"):
        return (
            f"Lambda layer {label!r:.100}, which carries Python code"
            if label
            else "lambda function, which is Python code"
        )
    if name in saving.VALUES and (module is None or _is_own(module, "keras")):
        return None
    for setting in _FILES if isinstance(config, dict) else ():
        if isinstance(path := config.get(setting), str):
            return f"layer {label!r:.100} that reads a file, {path!r:.100}"
    if name == "__typespec__":
        own = any(_is_own(module, package) for package in saving.TYPE_SPEC_PACKAGES)
        return None if own else f"type of module {module!r:.100}"
    if name == "function":
        if not isinstance(config, str):
            return "function whose name is not a text"
        if _is_registered(config) or saving.is_own_function(module, config):
            return None
        return f"custom function {config!r:.100}"
    # Keras looks up `registered_name` if there is one. HDF5 files have only `class_name`.
    if _is_registered(name if registered is None else registered):
        return _describe_op(name, config)
    if registered not in (None, name) or not saving.is_own_class(module, name):
        return f"custom class {name!r:.100}" + (f" of module {module!r:.100}" if module else "")
    return _describe_op(name, config)


def _is_registered(name):
    """Whether the program has registered this class or function with Keras."""
    return tf.keras.utils.get_registered_object(name) is not None


def _describe_op(name, config):
    if name in saving.OPERATIONS:
        function = config.get("function") if isinstance(config, dict) else None
        function = str(function).removeprefix("compat.v1.")
        if not function.startswith(_OP_MODULES) and function not in _OPS:
            return (
                f"call of TensorFlow's {function!r:.100}, which is not known to be plain arithmetic"
            )
    return None


def _is_own(module, package):
    return isinstance(module, str) and (module == package or module.startswith(f"{package}."))
