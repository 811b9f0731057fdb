"""Converts model files between Keras 2 and Keras 3.

Neither version reads the `.keras` archives of the other. `convert` translates an archive
without the version of Keras that wrote it, and without building the model: the
configuration by the tables in `_conversion_tables.py`, and the weights by the position of
their layers.

The model's outputs stay the same. What the two versions compute differently is refused;
the message names the layer and the setting. Training settings (the optimizer, losses and
metrics) are translated if possible, and otherwise left out with a warning. So is the
optimizer's state: its step count, momenta and the like.
"""

import contextlib
import json
import logging
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

from fedlab import _checks, _files
from fedlab.models import _archive, _conversion, _conversion_weights, limits
from fedlab.models._conversion import ConversionError

logger = logging.getLogger(__name__)

FORMATS = {"keras2": 2, "keras3": 3}
# What the files say they were saved by. The tables were tested with these versions.
_VERSIONS = {2: "2.14.0", 3: "3.15.1"}


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    to: str | None = None,
    *,
    trust_model: bool = False,
) -> pathlib.Path:
    """Writes a model file of one version of Keras as an archive of the other version.

    Args:
      source: the path of a `.keras` archive of Keras 2 or 3, which no version of Keras is
        needed for; or an HDF5 file or SavedModel folder that the installed Keras can
        load.
      target: the path of the new archive, which ends in `.keras`. An existing file is
        replaced.
      to: "keras2" or "keras3"; by default, the version that did not write `source`.
      trust_model: as in `fedlab.models.load`.

    Returns:
      The path of the new archive.

    Raises:
      ConversionError: the model has a layer or setting that the other version does not
        have. This is a ValueError.
      ValueError: `source` is not a model, is damaged, or is already in this format.

    Example:
      >>> convert("keras3.keras", "keras2.keras", to="keras2")  # doctest: +SKIP
    """
    source, target = pathlib.Path(source).expanduser(), pathlib.Path(target).expanduser()
    if to is not None and to not in FORMATS:
        raise _checks.value_error("to", to, " or ".join(map(repr, FORMATS)))
    if target.suffix != ".keras":
        raise _checks.value_error("target", str(target), "a path that ends in .keras")
    with tempfile.TemporaryDirectory() as folder:
        archive_path = source
        if source.is_dir() or not zipfile.is_zipfile(source):
            archive_path = _saved_again(source, pathlib.Path(folder), trust_model)
        with opened(archive_path, source, trust_model) as archive:
            version = major_version(archive, source)
            wanted = FORMATS[to] if to else 5 - version
            if wanted == version:
                if archive_path is source:
                    raise ValueError(
                        f"{source} was saved by Keras {archive.version}: expected to=keras"
                        f"{5 - version}, or a file of another version"
                    )
                data = archive_path.read_bytes()
            else:
                data = translated(archive, wanted, str(source))
    with _files.explained(f"target={target}", "pass a path that can be written to"):
        _files.write(target, data)
    return target


def _saved_again(source, folder, trust_model):
    """Loads a file with the installed Keras, and saves it as an archive."""
    from fedlab.models import loading

    model = loading.load(source, trust_model=trust_model)
    model.save(folder / "model.keras")
    return folder / "model.keras"


@contextlib.contextmanager
def opened(path: pathlib.Path, source: Any, trust_model: bool) -> Iterator[Any]:
    """Opens an `_archive.Archive` after the checks of its size and of links to other files."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(_archive.opened(path, limited=not trust_model))
            found = None if trust_model else archive.find_other_files()
            if not trust_model and not found:
                found = archive.find_unexpected_files()
                archive.check_arrays()
        except limits.TooLargeError as error:
            found = str(error)
        except _files.DAMAGE as error:
            raise ValueError(
                f"{source} cannot be read ({str(error)[:200]}): expected a .keras archive; the "
                "file may be damaged"
            ) from None
        if found:
            raise ValueError(
                f"{source} holds a {found}: pass trust_model=True if you trust the file"
            )
        yield archive


def major_version(archive: Any, source: Any) -> int:
    """Returns the major version of Keras that wrote an archive: 2 or 3.

    Args:
      archive: an `_archive.Archive`.
      source: what messages call the file.

    Raises:
      ValueError: it was written by neither.
    """
    version = archive.version.partition(".")[0]
    if version not in ("2", "3"):
        raise ValueError(
            f"{source} was saved by Keras {archive.version:.100}: expected Keras 2 or 3"
        )
    return int(version)


def translated(archive: Any, to: int, source: Any) -> bytes:
    """Returns an archive as the bytes of one that Keras `to` can load.

    Args:
      archive: an open `_archive.Archive` of the other version.
      to: 2 or 3.
      source: what messages call the file.

    Raises:
      ConversionError: it cannot be translated.
      ValueError: it is damaged.
    """
    import h5py

    if not isinstance(archive.weights, str):
        raise ConversionError(f"{source}: expected weights in HDF5, in model.weights.h5")
    try:
        config = (_conversion.to_keras3 if to == 3 else _conversion.to_keras2)(archive.config)
        old, new = (
            _conversion_weights.groups(item, version)
            for item, version in ((archive.config, 5 - to), (config, to))
        )
        if old.keys() != new.keys():
            raise ConversionError("expected layers of different names")
    except ConversionError as error:
        raise ConversionError(f"{source} cannot be converted to Keras {to}: {error}") from None
    if training := archive.config.get("compile_config"):
        try:
            config["compile_config"] = _conversion.training_to(to, training)
        except ConversionError as error:
            logger.warning(
                "%s is converted without its training settings (%s): call model.compile()",
                source,
                error,
            )
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "model.weights.h5"
        with h5py.File(archive.weights, "r") as before, h5py.File(weights, "w") as after:
            try:
                _conversion_weights.copy_arrays(before, after, {old[key]: new[key] for key in old})
            except ValueError as error:
                raise ConversionError(
                    f"{source} cannot be converted to Keras {to}: {error}"
                ) from None
            if compiled := config.get("compile_config"):
                reason = _conversion_weights.copy_optimizer_state(
                    before, after, compiled["optimizer"], to
                )
                if reason:
                    logger.warning(
                        "%s is converted without the state of its optimizer (%s): training "
                        "starts with new momenta",
                        source,
                        reason,
                    )
        path = pathlib.Path(folder) / "model.keras"
        assets = {old[key]: new[key] for key in old}
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("metadata.json", json.dumps({"keras_version": _VERSIONS[to]}))
            file.writestr("config.json", json.dumps(config))
            file.write(weights, "model.weights.h5")
            for name in sorted(archive.names - {"metadata.json", "config.json"}):
                if name == "model.weights.h5" or name.endswith("/"):
                    continue
                layer, _, last = name.removeprefix("assets/").rpartition("/")
                if not name.startswith("assets/") or layer not in assets or last != _VOCABULARY:
                    raise ConversionError(
                        f"{source} cannot be converted to Keras {to}: file {name!r:.100}: "
                        f"expected only vocabularies of layers"
                    )
                file.writestr(f"assets/{assets[layer]}/{last}", archive.read(name))
        return path.read_bytes()


_VOCABULARY = "vocabulary.txt"
