"""What a saved model would run, import or read from elsewhere when Keras rebuilds it.

Keras makes a model anew from JSON that names classes and functions. Names of Keras's own are harmless; a Lambda layer carries Python
bytecode, and a class of another module makes Keras import that module. A layer of words, or a file of weights, may name other files, whose
text would become the model's. What is not known to be harmless is reported before Keras sees it.
"""

import functools

import tensorflow as tf

# Forms of plain values in Keras's JSON: tuples, shapes, arrays.
_VALUES = {"__tuple__", "__ellipsis__", "__tensor__", "__numpy__", "__bytes__", "TensorShape", "TypeSpec", "CompositeTensor", "InputSpec"}
# Keras's own classes without a public name.
_INTERNAL = {"Functional", "TFOpLambda", "SlicingOpLambda", "MeanMetricWrapper", "LossFunctionWrapper", "SumOverBatchSizeMetricWrapper"}
_FUNCTION_SPACES = ("activations", "losses", "metrics", "initializers", "regularizers", "constraints")
# Functions of TensorFlow that a Functional model may call: arithmetic only, nothing that reads, writes or calls Python.
_OP_SPACES = ("math.", "nn.", "linalg.", "signal.", "bitwise.", "__operators__.")
_OPS = frozenset(
    "argsort batch_to_space bitcast boolean_mask broadcast_to cast clip_by_global_norm clip_by_norm clip_by_value concat convert_to_tensor "
    "einsum expand_dims eye fill gather gather_nd grad_pass_through identity linspace meshgrid norm one_hot ones ones_like pad range rank "
    "realdiv repeat reshape reverse reverse_sequence roll scatter_nd searchsorted sequence_mask shape shape_n size slice sort "
    "space_to_batch split squeeze stack stop_gradient strided_slice tensordot tensor_scatter_nd_update tile transpose unstack where zeros "
    "zeros_like".split()
)
# Layers whose words may be in a file that the configuration names.
_LOOKUPS = {"StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization"}
# Operations of a graph that reach files or Python. Those with which every SavedModel reads its own weights are not among them.
_GRAPH_OPS = frozenset(
    "CacheDataset CacheDatasetV2 CreateSummaryDbWriter CreateSummaryFileWriter DebugIdentity DebugIdentityV2 DebugIdentityV3 DebugNanCount "
    "DebugNumericSummary DebugNumericSummaryV2 EagerPyFunc MatchingFiles PyFunc PyFuncStateless ReadFile RemoteCall SaveDataset "
    "SaveDatasetV2 SnapshotDataset SnapshotDatasetV2 WholeFileReader WholeFileReaderV2 WriteFile".split()
)


def find_code(config):
    """Why a configuration (parsed JSON) would run code that is not Keras's own, or read a file, or None.

    Classes and functions that the program has registered with `tf.keras.utils.register_keras_serializable` are its own, and allowed.

    Example:
      >>> find_code({"class_name": "Dense", "config": {"units": 2}})
      >>> find_code([{"class_name": "Lambda", "config": {"name": "f"}}])
      "Lambda layer 'f', which carries Python code"
    """
    return next(filter(None, map(_describe, _objects(config))), None)


def find_other_files(file):
    """What an open `h5py.File` would have its reader take from other files, or None."""
    import h5py

    seen, waiting = set(), [file["/"]]
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group may be its own part
            continue
        seen.add(address)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                return f"link to another file, {link.filename!r:.100}"
            if isinstance(link, h5py.SoftLink):
                continue  # to what is looked at by its own name
            part = group[name]
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                return f"weight {part.name!r:.100} that is in another file"
    return None


def find_graph_code(saved_model):
    """As `find_code`, for the graphs of a SavedModel protocol buffer."""
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        functions = [node for function in graph.library.function for node in function.node_def]
        for node in [*graph.node, *functions]:
            if node.op in _GRAPH_OPS or (node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")):
                return f"operation {node.op}, which reaches files or Python"
    return None


def _objects(config):
    """All dicts that name a class, nested ones included."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_name"), str):
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _describe(item):
    name, config, module = item["class_name"], item.get("config"), item.get("module")
    label = config.get("name") if isinstance(config, dict) else None
    if name.rpartition(">")[2] in ("Lambda", "__lambda__"):
        return f"Lambda layer {label!r}, which carries Python code" if label else "lambda function, which is Python code"
    if name in _VALUES:
        return None
    if name.rpartition(">")[2] in _LOOKUPS and isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        return f"layer {label!r} that reads a file, {config['vocabulary']!r:.100}"
    if name == "__typespec__":
        return None if _is_own(module, "tensorflow") or _is_own(module, "keras") else f"type of module {module!r}"
    registered = item.get("registered_name")
    if any(isinstance(key, str) and tf.keras.utils.get_registered_object(key) is not None for key in (registered, name)):
        return None if name not in _INTERNAL else _describe_op(name, config)
    if name == "function":
        known = module in (None, "builtins") or module.removeprefix("keras.") in _FUNCTION_SPACES
        return None if known and config in _function_names() else f"custom function {config!r}"
    if name not in _class_names() or not (module is None or module == "builtins" or _is_own(module, "keras")):
        return f"custom class {name!r}" + (f" of module {module!r}" if module else "")
    return _describe_op(name, config)


def _describe_op(name, config):
    if name in ("TFOpLambda", "SlicingOpLambda"):
        function = str((config or {}).get("function")).removeprefix("compat.v1.")
        if not function.startswith(_OP_SPACES) and function not in _OPS:
            return f"call of TensorFlow's {function!r}, which is not known to be plain arithmetic"
    return None


def _is_own(module, package):
    return isinstance(module, str) and (module == package or module.startswith(f"{package}."))


@functools.cache
def _class_names():
    keras = tf.keras
    spaces = [keras, keras.layers, keras.layers.experimental, keras.layers.experimental.preprocessing, keras.models, keras.optimizers]
    spaces += [keras.optimizers.legacy, keras.optimizers.schedules, keras.optimizers.experimental, keras.mixed_precision]
    spaces += [keras.losses, keras.metrics, keras.initializers, keras.regularizers, keras.constraints]
    names = {name for space in spaces for name in dir(space) if isinstance(getattr(space, name), type)}
    return names | _INTERNAL


@functools.cache
def _function_names():
    spaces = [getattr(tf.keras, name) for name in _FUNCTION_SPACES]
    names = {name for space in spaces for name in dir(space) if callable(getattr(space, name)) and not name.startswith("_")}
    return names - {"deserialize", "serialize", "get"}
