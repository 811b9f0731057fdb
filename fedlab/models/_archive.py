"""`.keras` archives: a model's configuration as JSON, and its weights as HDF5.

Keras reads the weights directly from the archive, where each step back means reading
everything from the start again: 22 seconds for a small BERT. Unpacking the weights first
takes 2 seconds.
"""

import collections
import contextlib
import copy
import errno
import io
import pathlib
import tempfile
import zipfile

import tensorflow as tf

from fedlab import _json
from fedlab.learner import saving
from fedlab.models import limits, trust

_WEIGHTS = "model.weights.h5"
_PLAIN = {"config.json", "metadata.json", _WEIGHTS}


class Archive:
    """The contents of an archive. The unpacked weights exist within `opened`.

    Attributes:
      config: the parsed configuration.
      version: the version of Keras that saved the archive.
      weights: the path of the unpacked weights, or a file in memory if the disk is full;
        None if they are not HDF5.
      names: the names of the archive's files.
      all_names: the same as a list, which may have a name more than once.
    """

    def __init__(self, path, folder, limited):
        self._path, self._folder = path, folder
        with zipfile.ZipFile(path) as archive:
            self.all_names = archive.namelist()
            self.names = set(self.all_names)
            if limited:
                _check_sizes(archive, path.stat().st_size)
            self.config, metadata = (
                _read_json(archive, name, limited) for name in ("config.json", "metadata.json")
            )
            if not (isinstance(self.config, dict) and isinstance(metadata, dict)):
                raise ValueError("its configuration is not a JSON object")
            self.version = str(metadata.get("keras_version"))
            self.weights = self._unpacked(archive) if _WEIGHTS in self.names else None

    def _unpacked(self, archive):
        try:
            return archive.extract(_WEIGHTS, self._folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            return io.BytesIO(_read(archive, _WEIGHTS))  # Keras reads the archive itself

    def read(self, name):
        """Returns the bytes of one of the archive's files."""
        with zipfile.ZipFile(self._path) as archive:
            return _read(archive, name)

    def find_other_files(self):
        """Applies `fedlab.models.trust.find_other_files` to the weights."""
        import h5py

        if self.weights is None:
            return None
        with h5py.File(self.weights, "r") as file:
            return trust.find_other_files(file)

    def find_unexpected_files(self):
        """Returns a file that Keras does not save, or whose name leaves the archive, or None.

        Keras unpacks all of them if layers have files of their own.
        """
        for name, count in collections.Counter(self.all_names).items():
            parts = name.split("/")
            inside = parts[0] == "assets" and not {"", ".", ".."} & {*parts[1:-1]}
            if count > 1 or "\\" in name or ":" in name or parts[-1] in (".", ".."):
                return f"file with the name {name!r:.100}, which Keras does not write"
            if name not in _PLAIN and not inside:
                return f"file with the name {name!r:.100}, which Keras does not write"
        return None

    def check_arrays(self):
        """Applies `fedlab.models.limits.check_arrays` to the weights."""
        import h5py

        if self.weights is not None:
            with h5py.File(self.weights, "r") as file:
                limits.check_arrays(file, self._path.stat().st_size)

    def load(self, compile, safe_mode):
        """Does what `tf.keras.models.load_model` does."""
        # Layers may have additional files.
        if self.names != _PLAIN or not isinstance(self.weights, str):
            return self._load_by_keras(compile, safe_mode)
        config = self.config if compile else {**self.config, "compile_config": None}
        model = saving.from_config(config, safe_mode)
        model.load_weights(self.weights)
        return self._with_training(model, compile)

    def _load_by_keras(self, compile, safe_mode):
        # Keras recognizes its format by this suffix.
        link = pathlib.Path(self._folder) / "model.keras"
        if not link.is_symlink():
            link.symlink_to(self._path.resolve())
        model = tf.keras.models.load_model(link, compile=compile, safe_mode=safe_mode)
        return self._with_training(model, compile)

    def _with_training(self, model, compile):
        training = self.config.get("compile_config")
        if compile and training and isinstance(self.weights, str):
            saving.restore_training(model, training, self.weights)
        return model


def _check_sizes(archive, size_bytes):
    files = archive.infolist()
    if {file.compress_type for file in files} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise limits.TooLargeError(
            "file packed by another method than deflate, which may unpack to any size"
        )
    texts = [file for file in files if file.filename != _WEIGHTS]
    limits.check_text(
        "configuration",
        sum(file.file_size for file in texts),
        sum(file.compress_size for file in texts),
    )
    limits.check_weights(sum(file.file_size for file in files), size_bytes)


def _read_json(archive, name, limited):
    text = _read(archive, name)
    if limited:
        limits.check_json("configuration", text)
    return _json.loads(text)


def _read(archive, name):
    """Returns the bytes of a file and checks that they are as many as the archive says.

    `ZipFile.read` would first unpack everything that follows them.
    """
    file = copy.copy(archive.getinfo(name))
    size_bytes, file.file_size = file.file_size, file.file_size + 1
    with archive.open(file) as opened:
        data = opened.read(file.file_size)
    if len(data) != size_bytes:
        raise ValueError(f"{name} has another size than the archive says")
    return data


@contextlib.contextmanager
def opened(path, limited=True):
    """Opens an `Archive`.

    Args:
      path: a `pathlib.Path`.
      limited: whether to limit the memory that the archive may ask for.

    Raises:
      fedlab.models.limits.TooLargeError: it asks for too much memory.
      one of `fedlab._files.DAMAGE`: the file is not a .keras archive, or damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield Archive(path, folder, limited)
