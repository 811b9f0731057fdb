"""CelebA: TFF's columns, LEAF's files with pictures, and the synthetic faces."""

import json

import numpy as np
import pytest

from fedlab.datasets import _pictures, celeba
from tests.datasets.test_image_files import nearest_mean_accuracy

Image = pytest.importorskip("PIL.Image")


def test_attributes():
    assert len(celeba.ATTRIBUTES) == len(set(celeba.ATTRIBUTES)) == 40
    columns = {
        "image": np.arange(84 * 84 * 3).reshape(1, 84, 84, 3) % 256,
        "smiling": np.array([1]),
        "bald": np.array([0]),
    }
    for attribute, label in (("smiling", 1), ("bald", 0)):
        made = celeba.preprocess(columns, attribute)
        assert made["y"].tolist() == [label] and made["y"].dtype == np.int32
        np.testing.assert_allclose(made["x"], columns["image"] / 255, rtol=1e-6)


def write_leaf(folder, part, users):
    (folder / part).mkdir(parents=True)
    (folder / "img_align_celeba").mkdir(exist_ok=True)
    for names in users.values():
        for name in names:
            color = tuple(np.random.default_rng(int(name[:3])).integers(0, 256, 3).tolist())
            Image.new("RGB", (178, 218), color).save(folder / "img_align_celeba" / name)
    content = {
        "users": list(users),
        "num_samples": [len(names) for names in users.values()],
        "user_data": {
            user: {"x": names, "y": [i % 2 for i in range(len(names))]}
            for user, names in users.items()
        },
    }
    (folder / part / "all.json").write_text(json.dumps(content))


def test_leafs_files_with_pictures(tmp_path):
    write_leaf(tmp_path, "train", {"7": ["001.png", "002.png"], "9": ["003.png"]})
    write_leaf(tmp_path, "test", {"7": ["004.png"]})
    train, test = celeba.load("leaf", path=tmp_path)
    assert train.client_ids == ("7", "9") and test.client_ids == ("7",)
    assert train["7"]["x"].shape == (2, 84, 84, 3) and train["7"]["y"].tolist() == [0, 1]
    color = np.random.default_rng(2).integers(0, 256, 3) / 255
    np.testing.assert_allclose(train["7"]["x"][1, 40, 40], color, rtol=1e-6)
    (tmp_path / "img_align_celeba" / "004.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match="004.png' is damaged .*expected a picture"):
        test["7"]
    (tmp_path / "img_align_celeba" / "004.png").unlink()
    with pytest.raises(FileNotFoundError, match="004.png"):
        celeba.load("leaf", path=tmp_path)[1]["7"]


def test_pictures_are_cropped_in_the_center(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, [10, 14, 3], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = _pictures.read(tmp_path / "a.png", 4, crop=True)
    np.testing.assert_array_equal(read, pixels[3:7, 5:9])
    assert _pictures.read(tmp_path / "a.png", 20, crop=True).shape == (20, 20, 3)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"attribute": "grin"}, ValueError, "attribute='grin': expected one of five_o_clock"),
        ({"split": "time"}, ValueError, "split='time': expected 'clients' or 'examples'"),
        ({"source": "leaf"}, ValueError, "path=None: expected the folder .* source='leaf'"),
        ({"source": "leaf", "path": "/nowhere"}, FileNotFoundError, "but there is no train"),
        ({"path": "/nowhere"}, FileNotFoundError, "celeba.sqlite or celeba.sqlite.lzma"),
    ],
)
def test_mistakes(options, error, message):
    with pytest.raises(error, match=message):
        celeba.load(**options)


def test_synthetic_faces_can_be_learned():
    train, test = celeba.synthetic(num_clients=8)
    assert len(test) == 2 and not set(train) & set(test)
    assert nearest_mean_accuracy(train, test) > 0.9
