"""Private and internal names of Keras are used in fedlab/learner only."""

import ast
import pathlib

import pytest
import tensorflow as tf

import fedlab
from tests.stacks import IS_KERAS_3, KERAS

ROOT = pathlib.Path(fedlab.__file__).parent.parent
LEARNER = ROOT / "fedlab" / "learner"
IMPLEMENTATION = LEARNER / KERAS.rpartition(".")[2]

# Modules that must not be imported, nor reached as attributes: tf.keras.optimizers.legacy.
MODULES = (
    "keras",
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tf.keras.__internal__",
    "tf.keras.optimizers.legacy",
    "tf.__internal__",
    "keras.engine",
    "keras.optimizers.legacy",
    "keras.protobuf",
    "keras.src",
)

# Private attributes that objects get when they are made, built, compiled or trained.
# Those of the classes are found by `attributes_of_classes`.
ATTRIBUTES = set(
    """
    _auto_config _build_input_shape _built _cached_value _callable_losses _compile_config
    _compiled_trainable_state _compute_dtype _could_use_gpu_kernel _dtype_policy
    _exclude_from_weight_decay _exclude_from_weight_decay_names _fn _fn_kwargs _generator
    _inbound_nodes_value _index_dict _initial_weights _input_coordinates _input_layers
    _is_compiled _is_graph_network _jit_compile _keras_history _keras_mask
    _layer_call_argspecs _layout_map _learning_rate _losses _maybe_init _metrics_lock
    _momentums _nested_inputs _nested_outputs _network_nodes _nodes_by_depth
    _non_trainable_weights _outbound_nodes_value _output_coordinates _output_layers
    _predict_counter _random_generator _run_eagerly _SAVING_V3_ENABLED
    _self_tracked_trackables _test_counter _train_counter _trainable _trainable_weights
    _u_product _u_product_counter _updates _user_losses _user_metrics _user_weighted_metrics
    _velocities
    """.split()
    # Of Keras 3.
    + """
    _compile_loss _compile_metrics _compute_loss _functional _inputs_struct _lookup_layer
    _loss_tracker _metrics _seed_generators _exclude_from_weight_decay_pattern _layers _path
    _trainable_variables _non_trainable_variables _call_has_training_arg _inbound_nodes
    """.split()
)


def attributes_of_classes():
    """The private attributes of all classes of Keras."""
    optimizers = [tf.keras.optimizers.Optimizer]
    if not IS_KERAS_3:
        optimizers.append(tf.keras.optimizers.legacy.Optimizer)
    found, classes = set(), {tf.Module, tf.keras.losses.Loss, tf.keras.layers.Layer}
    classes |= {cls for optimizer in optimizers for cls in optimizer.__mro__[:-1]}
    while classes:
        cls = classes.pop()
        if cls.__module__.startswith("keras."):
            found.update(name for name in vars(cls) if is_private(name))
        classes.update(cls.__subclasses__())
    return found


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def files():
    """The Python files of the package and of the experiments, and scripts, without the learner."""
    found = [*ROOT.glob("fedlab/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    for script in ROOT.glob("scripts/*"):
        if script.suffix == ".py" or "python" in script.read_text().partition("\n")[0]:
            found.append(script)
    return sorted(path for path in found if LEARNER not in path.parents)


def own_attributes(tree):
    """The names that a module defines, or sets as attributes of `self` or `cls`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) in ("self", "cls"):
                yield node.attr


def attributes(tree):
    """The attributes that a module reads or sets: (object, name), as in `object.name`.

    Attributes of `self` and `cls` are left out if the module defines them: then they are
    its own. The attributes in getattr(object, "name") and its like are included.
    """
    own = set(own_attributes(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = ast.unparse(node.value)
            if not (value in ("self", "cls") and node.attr in own):
                yield value, node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            function, name = ast.unparse(node.func), node.args[1]
            if function in ("getattr", "hasattr", "setattr", "delattr"):
                if isinstance(name, ast.Constant):
                    yield ast.unparse(node.args[0]), name.value


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(code, forbidden):
    """The private names of Keras that a module uses."""
    tree = ast.parse(code)
    for name in imports(tree):
        if any(f"{name}.".startswith(f"{module}.") for module in MODULES):
            yield name
    for value, name in attributes(tree):
        path = f"{value}.{name}"
        if name in forbidden or any(path.endswith(module) for module in MODULES if "." in module):
            yield path


@pytest.fixture(scope="module")
def forbidden():
    return ATTRIBUTES | attributes_of_classes()


def test_only_the_learner_uses_private_names_of_keras(forbidden):
    assert len(files()) > 100
    found = [
        f"{path.relative_to(ROOT)} uses {name}"
        for path in files()
        for name in uses(path.read_text(encoding="utf-8"), forbidden)
    ]
    assert not found


def test_the_list_has_all_that_the_learner_uses(forbidden):
    for path in IMPLEMENTATION.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {name for _, name in attributes(tree) if is_private(str(name))}
        missing = used - set(own_attributes(tree)) - forbidden
        assert not missing, path


@pytest.mark.parametrize(
    "code, name",
    [
        ("from keras.src import backend", "keras.src.backend"),
        ("def f():\n    import keras", "keras"),
        ("from tensorflow.python.keras.engine import base_layer", "base_layer"),
        ("def f(model):\n    return model._flatten_layers()", "model._flatten_layers"),
        ("class A:\n    def f(self):\n        self._is_graph_network", "self._is_graph_network"),
        ("compiled = getattr(model, '_compile_config', None)", "model._compile_config"),
        ("layer = model.outputs[0]._keras_history.layer", "_keras_history"),
        ("layer._random_generator = None", "layer._random_generator"),
        ("tf.keras.optimizers.legacy.SGD(0.1)", "tf.keras.optimizers.legacy"),
        ("tf.keras.__internal__.layers.BaseRandomLayer", "tf.keras.__internal__"),
        ("import tensorflow as tf\ntf.keras.src.engine", "tf.keras.src"),
    ],
)
def test_a_planted_use_is_found(code, name, forbidden):
    assert any(found.endswith(name) or name in found for found in uses(code, forbidden))


@pytest.mark.parametrize(
    "code",
    [
        "# model._flatten_layers()\ntext = 'keras.src, _compile_config'",
        "class A:\n    def _losses(self):\n        return self._losses()",
        "import tensorflow as tf\ntf.keras.layers.Dense(3).trainable_weights",
        "settings._replace(a=1)",
        "from fedlab.learner.keras2 import graph",
    ],
)
def test_other_code_is_not_reported(code, forbidden):
    assert not list(uses(code, forbidden))
