"""`.keras` archives: a JSON that describes the model, and its weights as HDF5.

Keras reads the weights out of the archive, where going back means to read everything before once more: 22 seconds for a small BERT. Here
they are unpacked first, which takes a tenth of that.
"""

import contextlib
import copy
import errno
import io
import pathlib
import tempfile
import zipfile

import tensorflow as tf

from fedlab import _json
from fedlab.models import limits, trust

_WEIGHTS = "model.weights.h5"
_PLAIN = {"config.json", "metadata.json", _WEIGHTS}


class Archive:
    """What is in an archive; its weights are unpacked for as long as `opened` is at work.

    Attributes:
      config: the description, parsed.
      version: Keras's, which saved it.
      weights: the path of the unpacked weights, or a file in memory, or None where they are not HDF5.
      names: of its files.
    """

    def __init__(self, path, folder, limited):
        self._path, self._folder = path, folder
        with zipfile.ZipFile(path) as archive:
            self.names = set(archive.namelist())
            if limited:
                _check_sizes(archive, path.stat().st_size)
            self.config, metadata = (
                _read_json(archive, name, limited) for name in ("config.json", "metadata.json")
            )
            if not (isinstance(self.config, dict) and isinstance(metadata, dict)):
                raise ValueError("its configuration is no JSON object")
            self.version = str(metadata.get("keras_version"))
            self.weights = self._unpacked(archive) if _WEIGHTS in self.names else None

    def _unpacked(self, archive):
        try:
            return archive.extract(_WEIGHTS, self._folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            return io.BytesIO(
                _read(archive, _WEIGHTS)
            )  # there is no room: Keras has to read the archive

    def find_other_files(self):
        """As `fedlab.models.trust.find_other_files`, of its weights."""
        import h5py

        if self.weights is None:
            return None
        with h5py.File(self.weights, "r") as file:
            return trust.find_other_files(file)

    def check_arrays(self):
        """As `fedlab.models.limits.check_arrays`, of its weights."""
        import h5py

        if self.weights is not None:
            with h5py.File(self.weights, "r") as file:
                limits.check_arrays(file, self._path.stat().st_size)

    def load(self, compile, safe_mode):
        """As `tf.keras.models.load_model`."""
        if self.names != _PLAIN or not isinstance(
            self.weights, str
        ):  # layers may have files of their own
            return self._load_by_keras(compile, safe_mode)
        from keras.src.saving import saving_lib
        from keras.src.saving.serialization_lib import ObjectSharingScope

        config = copy.deepcopy(self.config)  # Keras takes it to pieces
        if not compile:
            config["compile_config"] = None
        enabled = getattr(saving_lib._SAVING_V3_ENABLED, "value", False)
        saving_lib._SAVING_V3_ENABLED.value = True  # losses are read as this format has them
        try:
            with ObjectSharingScope():
                model = tf.keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
        finally:
            saving_lib._SAVING_V3_ENABLED.value = enabled
        model.load_weights(self.weights)
        return model

    def _load_by_keras(self, compile, safe_mode):
        link = (
            pathlib.Path(self._folder) / "model.keras"
        )  # without this suffix Keras does not recognize its own format
        if not link.is_symlink():
            link.symlink_to(self._path.resolve())
        return tf.keras.models.load_model(link, compile=compile, safe_mode=safe_mode)


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
    """The bytes of a file, which have to be as many as the archive says: `ZipFile.read` would first unpack what follows them."""
    file = copy.copy(archive.getinfo(name))
    size_bytes, file.file_size = file.file_size, file.file_size + 1
    with archive.open(file) as opened:
        data = opened.read(file.file_size)
    if len(data) != size_bytes:
        raise ValueError(f"{name} is not of the size that the archive says")
    return data


@contextlib.contextmanager
def opened(path, limited=True):
    """An `Archive`.

    Args:
      path: of the file.
      limited: whether to check how much memory it asks for.

    Raises:
      fedlab.models.limits.TooLargeError: it asks for too much.
      one of `fedlab._files.DAMAGE`: the file's bytes are no such archive.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield Archive(path, folder, limited)
