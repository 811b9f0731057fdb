"""Loads Keras models: shipped models by name, files and folders by path, and files by URL."""

import contextlib
import difflib
import functools
import hashlib
import logging
import math
import os
import pathlib
import tempfile
import urllib.parse
import warnings
from typing import Any

import tensorflow as tf

from fedlab import _cache, _checks, _download, _files, _json
from fedlab.learner import finalize_adapted, saving
from fedlab.models import _archive, _conversion, convert, limits, shipped, trust

logger = logging.getLogger(__name__)

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FORMATS = "a .keras archive, an HDF5 file (.h5, .hdf5, any suffix) or a SavedModel folder"


def load(
    source: str | os.PathLike,
    *,
    trust_model: bool = False,
    cache_dir: str | os.PathLike | None = None,
    **overrides: Any,
) -> tf.keras.Model:
    """Loads a Keras model by name, path or URL.

    A shipped model is compiled. A model from a file is compiled as it was when it was saved.
    If it was not compiled, call `model.compile`, or `compile_char_rnn` for next-character
    models, whose loss masks padding. An optimizer of `tf.keras.optimizers.legacy` is
    replaced by the new optimizer of the same name and settings, without its moments.
    Training settings that cannot be restored, such as a custom loss, are left out with a
    warning.

    A .keras archive of another version of Keras is converted, and so is an HDF5 file that
    Keras 2 saved if Keras 3 is installed; see `fedlab.models.convert`. Of such an HDF5 file
    the optimizer's state, such as momenta, is lost.

    Models of KerasHub need `import keras_hub` first.

    The model of TFF's text-generation tutorial, `dickens_rnn.batch8.kerasmodel`, is an HDF5
    file: `compile_char_rnn(load("dickens_rnn.batch8.kerasmodel"))`.

    Args:
      source: one of `names()`; the path of a .keras archive, an HDF5 file or a SavedModel
        folder, which are told apart by their content, not by their suffix; or an http(s)
        URL of such a file. Use "./name" for a file that has the name of a shipped model.
      trust_model: whether to load a file that would run its own Python code (a Lambda
        layer, or a class of another module), whose graph has operations other than those
        of `fedlab.models.graph_ops`, or that asks for more memory than
        `fedlab.models.limits` allows. Such a file can do anything that you can do. Pickled
        models are never loaded.
      cache_dir: where downloaded files are stored; by default $FEDLAB_CACHE, else
        $XDG_CACHE_HOME/fedlab, else ~/.cache/fedlab.
      **overrides: for a shipped model, arguments of its builder (`char_rnn`), such as
        `stateful=True, batch_size=8` or `learning_rate`.

    Returns:
      A `tf.keras.Model`.

    Raises:
      ValueError: an unknown name; a file that is not a model, is damaged, would run code or
        take too much memory; or overrides that do not fit.
      FileNotFoundError: nothing exists at this path.
      ConnectionError: the server cannot be reached.

    Example:
      >>> model = load("dickens_char_rnn", stateful=True, batch_size=8)  # doctest: +SKIP
      >>> model = load("runs/first/model.keras")  # doctest: +SKIP
    """
    if not isinstance(source, str | os.PathLike):
        raise _checks.type_error("source", source, "a model's name, path or URL")
    text = os.fspath(source)
    if not text:
        raise _checks.value_error("source", text, f"a path, a URL, or a shipped model ({_names()})")
    if isinstance(source, str) and source in shipped.names():
        return shipped.load_shipped(source, **overrides)
    if overrides:
        raise ValueError(
            f"{', '.join(overrides)} with source={text!r}: expected arguments of a builder with "
            f"shipped models ({_names()}) only; leave them out"
        )
    if "://" in text:
        return _load_url(text, trust_model, cache_dir)
    with _files.explained(text, "pass the path of a model that can be read"):
        try:
            path = pathlib.Path(text).expanduser()
        except RuntimeError:  # "~name" without such a user
            raise _missing(text) from None
        if not path.exists():
            raise _missing(text)
        # Keras does not do this: a loaded Discretization would have no bins.
        return finalize_adapted(_load_path(path, text, trust_model))


def _names():
    return ", ".join(shipped.names()) or "none in this installation"


def _missing(text):
    close = difflib.get_close_matches(text, shipped.names(), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    if "/" in text or os.sep in text or pathlib.PurePath(text).suffix:
        return FileNotFoundError(
            f"there is no model at {text!r}: expected {_FORMATS}, or a shipped model "
            f"({_names()}){hint}"
        )
    return ValueError(
        f"{text!r} is neither a shipped model nor an existing path: expected a path, or "
        f"{_names()}{hint}"
    )


# ---- URLs ----


def _load_url(url, trust_model, cache_dir):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(
            f"source={url!r}: expected http://, https://, a path, or a shipped model ({_names()})"
        )
    # The digest of the URL distinguishes files of the same name.
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = pathlib.PurePosixPath(parts.path).name or "model"
    file = _cache.folder(cache_dir) / "models" / f"{digest}-{name}"
    try:
        _download.download(url, file, check=lambda arrived: _format_of_file(arrived, url))
    except ConnectionError as error:
        raise ConnectionError(
            f"{url} could not be downloaded ({error}): check the URL and the network, or use a "
            f"shipped model ({_names()})"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{url} could not be stored in {file.parent} ({error.strerror}): pass cache_dir, a "
            "folder that you can write to"
        ) from None
    return _load_path(file, url, trust_model)


# ---- Paths ----


def _load_path(path, source, trust_model):
    load = (
        _load_saved_model
        if path.is_dir()
        else {"keras": _load_keras, "hdf5": _load_hdf5}[_format_of_file(path, source)]
    )
    try:
        return load(path, source, trust_model)
    except limits.TooLargeError as error:
        raise _refused(source, str(error)) from None


def _format_of_file(path, source):
    """Returns "keras" or "hdf5", according to the file's first bytes."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_ZIP):
        return "keras"
    if start == _HDF5:
        return "hdf5"
    kind = (
        "an empty file"
        if not start
        else "a pickled object, which is never loaded"
        if start[:1] == b"\x80"
        else "not a Keras model"
    )
    raise ValueError(f"{source} is {kind}: expected {_FORMATS}")


def _load_keras(path, source, trust_model):
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(_archive.opened(path, limited=not trust_model))
            elsewhere = None if trust_model else archive.find_other_files()
            if not trust_model and not elsewhere:
                archive.check_arrays()
        except _files.DAMAGE as error:
            raise _damaged(source, error) from None
        if not trust_model and archive.weights is None:
            if archive.names <= {"config.json", "metadata.json"}:
                raise ValueError(
                    f"{source}, saved by Keras {archive.version}, holds no weights: expected a "
                    "complete file; save the model again"
                )
            raise _refused(source, "file of weights other than HDF5, which may carry Python code")
        if elsewhere:
            raise _refused(source, elsewhere)
        if not trust_model and (unexpected := archive.find_unexpected_files()):
            raise _refused(source, unexpected)
        if convert.major_version(archive, source) != saving.VERSION:
            converted = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            converted /= "model.keras"
            converted.write_bytes(_converted(archive, source))
            return _load_keras(converted, source, trust_model)
        config = {name: value for name, value in archive.config.items() if name != "compile_config"}
        load = functools.partial(archive.load, safe_mode=not trust_model)
        return _rebuild(
            load,
            source,
            trust_model,
            config,
            archive.config.get("compile_config"),
            path.stat().st_size,
        )


def _converted(archive, source):
    """The bytes of an archive of another version of Keras, as the installed one reads it."""
    try:
        return convert.translated(archive, saving.VERSION, source)
    except convert.ConversionError as error:
        raise ValueError(
            f"{error}; {_other_stack(convert.major_version(archive, source))}"
        ) from None


def _other_stack(version):
    """What to do with a file that only another version of Keras can load."""
    return f"load it with {_keras(version)}, or build the model here and set its weights"


def _keras(version):
    environment = ".venv-tff" if version == 2 else ".venv"
    return f"Keras {version} (in fedlab's repository: {environment}/bin/python)"


def _load_hdf5(path, source, trust_model):
    import h5py

    try:
        with h5py.File(path, "r") as file:
            elsewhere = None if trust_model else trust.find_other_files(file)
            if not trust_model and not elsewhere:
                limits.check_names(path)
                limits.check_arrays(file, path.stat().st_size)
            config, training = (
                _json_attribute(file, name, trust_model)
                for name in ("model_config", "training_config")
            )
            version = _hdf5_version(file)
            has_state = "optimizer_weights" in file
    except _files.DAMAGE as error:
        raise _damaged(source, error) from None
    if config is None:
        raise ValueError(
            f"{source} is an HDF5 file without a model (weights only?): expected a file from "
            "model.save(); or build the model and call load_weights"
        )
    if elsewhere:
        raise _refused(source, elsewhere)
    size_bytes = path.stat().st_size
    if version == saving.VERSION == 2:
        return _rebuild(_by_keras(path), source, trust_model, config, training, size_bytes)
    if version == saving.VERSION:
        if operation := saving.operation_in(config):
            raise ValueError(
                f"{source} holds the operation {operation!r}, which Keras 3 writes to HDF5 "
                "files but cannot read from them: save the model as a .keras archive"
            )
        load = functools.partial(saving.load_hdf5, path, safe_mode=not trust_model)
        return _rebuild(load, source, trust_model, config, training, size_bytes)
    if version == 3:
        raise ValueError(
            f"{source} is an HDF5 file of Keras 3: expected a .keras archive; run `fedlab convert "
            f"--to=keras2 {source} model.keras` with {_keras(3)}"
        )
    try:
        config = _conversion.to_keras3(config)
    except convert.ConversionError as error:
        raise ValueError(
            f"{source} cannot be converted to Keras 3: {error}; {_other_stack(2)}"
        ) from None
    if training is not None:
        try:
            config["compile_config"] = training = _conversion.training_to(3, training)
        except convert.ConversionError as error:
            _warn_of_training(source, error)
            training = None

    def load(compile):
        model = saving.from_config(config if compile else {**config, "compile_config": None}, True)
        saving.load_hdf5_weights(model, path)
        return model

    if training is not None and has_state:
        logger.warning(
            "%s was loaded without the state of its optimizer, as HDF5 files of Keras 2 order it "
            "differently: training starts with new momenta",
            source,
        )
    return _rebuild(load, source, trust_model, config, training, size_bytes)


def _hdf5_version(file):
    """The major version of Keras that saved an HDF5 file; Keras 2 did so if it is not known."""
    version = file.attrs.get("keras_version", b"2")
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    return 3 if text.startswith("3.") else 2


def _by_keras(path):
    return lambda compile: tf.keras.models.load_model(path, compile=compile)


def _json_attribute(file, name, trust_model):
    value = file.attrs.get(name)
    if value is None:
        return None
    text = value.encode() if isinstance(value, str) else bytes(value)
    if not trust_model:
        limits.check_text("configuration", len(text), len(text))
        limits.check_json("configuration", text)
    return _json.loads(text)


def _load_saved_model(path, source, trust_model):
    from tensorflow.core.protobuf import saved_model_pb2

    if not (path / "saved_model.pb").is_file():
        models = sorted(
            file.name for file in path.iterdir() if file.suffix in (".keras", ".h5", ".hdf5")
        )
        remedy = f"; it holds {models[0]}: pass that path" if models else ""
        raise FileNotFoundError(
            f"{source} is a folder without a SavedModel: expected {_FORMATS}{remedy}"
        )
    if not (path / "keras_metadata.pb").is_file():
        raise ValueError(
            f"{source} is a SavedModel without Keras's metadata (from tf.saved_model.save or "
            "export?): expected a model saved with model.save()"
        )
    if not saving.READS_SAVED_MODELS:
        raise ValueError(
            f"{source} is a SavedModel folder, which Keras 3 does not read: expected a .keras "
            f"archive or HDF5 file; run `fedlab convert {source} model.keras` with {_keras(2)}"
        )
    graphs = saved_model_pb2.SavedModel()
    if not trust_model:
        _check_texts(path)
    try:
        configs = saving.saved_model_configs((path / "keras_metadata.pb").read_bytes())
        graphs.ParseFromString((path / "saved_model.pb").read_bytes())
        nodes = [_json.loads(config) for config in configs]
        size_bytes = 0 if trust_model else limits.check_saved_model(path, graphs)
    except limits.TooLargeError:
        raise
    except Exception as error:  # protocol buffers have exceptions of their own
        raise _damaged(source, error) from None
    if not nodes:
        raise _damaged(source, ValueError("it has no Keras objects"))
    training = [node.pop("training_config", None) for node in nodes]
    if not trust_model and (code := trust.find_code(nodes) or trust.find_graph_code(graphs)):
        raise _refused(source, code)
    return _rebuild(
        _by_keras(path), source, trust_model, nodes, training if any(training) else None, size_bytes
    )


def _check_texts(path):
    """Checks the sizes of the files that TensorFlow and Keras parse in a SavedModel."""
    for name in (
        "keras_metadata.pb",
        "saved_model.pb",
        "fingerprint.pb",
        "debug/saved_model_debug_info.pb",
    ):
        if (file := path / name).is_file():
            limits.check_text(name, file.stat().st_size, file.stat().st_size)
    limits.check_json("configuration", (path / "keras_metadata.pb").read_bytes())


def _rebuild(load, source, trust_model, config, training, size_bytes):
    """Returns the model, loaded by Keras after the last checks.

    Training settings that cannot be restored are left out.

    Args:
      load: compile (bool) -> the model.
      config, training: parsed JSON; `training` is None for a model that was not compiled.
      size_bytes: size of the file, which limits the memory that an untrusted model may take.
    """
    limit_bytes = math.inf if trust_model else limits.memory(size_bytes)
    if not trust_model and (code := trust.find_code(config)):
        raise _refused(source, code)
    reason = None if trust_model else trust.find_code(training)
    with _quiet():
        if training and not reason:
            try:
                with limits.variables(limit_bytes):
                    return _load_compiled(load, training)
            except limits.TooLargeError:
                raise
            except Exception as error:  # of many types; loading without compiling may work
                logger.debug("loading %s", source, exc_info=True)
                reason = _first_line(error)
        try:
            with limits.variables(limit_bytes):
                model = load(compile=False)
        except limits.TooLargeError:
            raise
        except Exception as error:
            logger.debug("loading %s", source, exc_info=True)
            raise _damaged(source, error) from None
    if reason:
        _warn_of_training(source, reason)
    return model


def _warn_of_training(source, reason):
    logger.warning(
        "%s was loaded without its training settings (%s): call model.compile() or "
        "compile_char_rnn()",
        source,
        reason,
    )


def _load_compiled(load, training):
    if saving.has_legacy_optimizer(training):
        model = load(compile=False)
        model.compile(**tf.keras.saving.deserialize_keras_object(training))
    else:
        model = load(compile=True)
    return saving.replace_legacy_optimizer(model)


def _refused(source, code):
    remedy = "pass trust_model=True if you trust the file"
    if "of module 'keras_hub" in code:
        remedy = f"import keras_hub first, or {remedy}"
    elif code.startswith("custom"):
        remedy = f"register it with tf.keras.utils.register_keras_serializable, or {remedy}"
    return ValueError(f"{source} holds a {code}: {remedy}")


def _damaged(source, error):
    reason = _first_line(error)
    return ValueError(
        f"{source} cannot be loaded ({reason}): expected a model that TensorFlow {tf.__version__} "
        "can read; the file may be damaged, get or save it again"
    )


def _first_line(error):
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(message).strip().splitlines() or [""]
    return (lines[0].strip() or type(error).__name__)[:200]


@contextlib.contextmanager
def _quiet():
    """Suppresses Keras's warnings on what `load` handles, such as a missing compilation."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [a_logger.level for a_logger in loggers]
    for a_logger in loggers:
        a_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            yield
    finally:
        for a_logger, level in zip(loggers, levels, strict=True):
            a_logger.setLevel(level)
