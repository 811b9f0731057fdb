"""Clients from folders of images and texts."""

import numpy as np
import pytest

from fedlab import ClientData
from fedlab.clients import partitioners
from fedlab.clients.sources import images

Image = pytest.importorskip("PIL.Image")


def save(path, value, size=(4, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": [3], "RGBA": [4], "L": []}[mode]
    Image.fromarray(np.full([*size, *channels], value, np.uint8), mode=None).save(path)


def test_a_folder_per_client(tmp_path):
    for client_id, values in {"bob": [1, 2], "ann": [3]}.items():
        for value in values:
            save(tmp_path / client_id / f"{value}.png", value)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "ann" / ".DS_Store").touch()
    clients = ClientData.from_folder(tmp_path)
    assert clients.client_ids == ("ann", "bob")
    assert list(clients["bob"]) == ["x"]
    assert clients["bob"]["x"].shape == (2, 4, 6, 3) and clients["bob"]["x"].dtype == np.uint8
    assert clients["bob"]["x"][:, 0, 0, 0].tolist() == [1, 2]
    assert clients.source.num_rows == 3 and clients.source.class_names == ()


def test_a_folder_per_client_with_classes(tmp_path):
    save(tmp_path / "ann" / "dog" / "a.png", 1)
    save(tmp_path / "ann" / "cat" / "b.png", 2)
    save(tmp_path / "bob" / "dog" / "c.png", 3)
    clients = ClientData.from_folder(tmp_path, color="grayscale")
    assert clients["ann"]["x"].shape == (2, 4, 6, 1)
    assert clients["ann"]["x"][:, 0, 0, 0].tolist() == [2, 1]
    assert clients["ann"]["y"].tolist() == [0, 1] and clients["bob"]["y"].tolist() == [1]
    assert clients["ann"]["y"].dtype == np.int64
    assert clients.source.class_names == ("cat", "dog")
    more = ClientData.from_folder(tmp_path, class_names=["bird", "dog", "cat"])
    assert more["ann"]["y"].tolist() == [2, 1]


def test_class_folders_and_a_partitioner(tmp_path):
    for name, values in {"cat": [10, 11], "dog": [20, 21, 22]}.items():
        for value in values:
            save(tmp_path / name / f"{value}.png", value)
    clients = ClientData.from_folder(tmp_path, partitioner={"ann": [0, 4], "bob": [3]})
    assert clients["ann"]["x"][:, 0, 0, 0].tolist() == [10, 22]
    assert clients["ann"]["y"].tolist() == [0, 1] and clients["bob"]["y"].tolist() == [1]
    drawn = ClientData.from_folder(tmp_path, partitioner=partitioners.natural("y"))
    assert drawn["0"]["y"].tolist() == [0, 0] and drawn["1"]["x"].shape == (3, 4, 6, 3)


def test_images_are_resized(tmp_path):
    half = np.zeros([8, 8, 3], np.uint8)
    half[:, 4:] = 100
    (tmp_path / "ann").mkdir()
    Image.fromarray(half).save(tmp_path / "ann" / "a.png")
    save(tmp_path / "ann" / "b.png", 7, size=(2, 3))
    with pytest.raises(ValueError, match="b.png has the size 2 x 3, but a.png has 8 x 8"):
        ClientData.from_folder(tmp_path)["ann"]
    x = ClientData.from_folder(tmp_path, image_size=(4, 2))["ann"]["x"]
    assert x.shape == (2, 4, 2, 3)
    assert (x[1] == 7).all()
    # Antialiasing: a pixel is the mean of a half, but for the filter's reach over the edge.
    assert (x[0, :, 0] < 20).all() and (x[0, :, 1] > 80).all()


def test_other_images():
    deep = np.array([[0, 256, 65535]], np.uint16)
    for array, color, expected in [
        (deep, "grayscale", [[[0], [1], [255]]]),
        (np.array([[[1, 2, 3, 4]]], np.uint8), "rgba", [[[1, 2, 3, 4]]]),
        (np.array([[5]], np.uint8), "rgb", [[[5, 5, 5]]]),
    ]:
        path = "image.png"
        encoded = _encoded(array)
        assert images.decode(encoded, path, color=color).tolist() == expected


def _encoded(array):
    import io

    opened = io.BytesIO()
    Image.fromarray(array).save(opened, format="PNG")
    return opened.getvalue()


def test_texts(tmp_path):
    for client_id, text in {"ann": "to be", "bob": "über"}.items():
        (tmp_path / client_id).mkdir()
        (tmp_path / client_id / "1.txt").write_text(text, encoding="utf-8")
    clients = ClientData.from_folder(tmp_path)
    assert clients["bob"]["x"].tolist() == ["über"] and clients["bob"]["x"].dtype == object


def test_images_are_decoded_when_a_client_is_used(tmp_path):
    save(tmp_path / "ann" / "a.png", 1)
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "b.png").write_bytes(b"no image")
    clients = ClientData.from_folder(tmp_path)
    assert clients["ann"]["x"].shape == (1, 4, 6, 3)
    with pytest.raises(ValueError, match="bob/b.png: the image is damaged"):
        clients["bob"]


def test_damaged_files_and_empty_clients_are_skipped_and_counted(tmp_path):
    save(tmp_path / "ann" / "a.png", 1)
    (tmp_path / "ann" / "b.png").write_bytes(b"no image")
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "c.png").touch()
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="client 'cat' has no files"):
        ClientData.from_folder(tmp_path)
    clients = ClientData.from_folder(tmp_path, skip_invalid=True)
    assert clients.client_ids == ("ann",) and len(clients["ann"]["x"]) == 1
    assert clients.source.skipped == {"files that cannot be read": 2, "clients without files": 2}
    assert clients.source.num_rows == 3
