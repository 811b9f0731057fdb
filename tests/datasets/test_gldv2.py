"""Google Landmarks v2: the index, photographs in folders, and synthetic photographs."""

import zipfile

import numpy as np
import pytest

from fedlab.datasets import gldv2
from tests.datasets.test_image_files import nearest_mean_accuracy

TRAIN = "user_id,image_id,class\n7,ab1,3\n9,ab2,0\n7,cd3,202\n"
TEST = "image_id,class\nef4,3\nef5,1\n"


def write_index(folder):
    (folder / "mini_gld_train_split.csv").write_text(TRAIN)
    (folder / "mini_gld_test.csv").write_text(TEST)
    return folder


def check_index(train, test):
    assert train.client_ids == ("7", "9") and test.client_ids == ("test",)
    assert train["7"]["image_id"].tolist() == ["ab1", "cd3"]
    assert train["7"]["y"].tolist() == [3, 202] and train["7"]["y"].dtype == np.int32
    assert test["test"]["image_id"].tolist() == ["ef4", "ef5"]


def test_the_index_of_23k(tmp_path, caplog):
    check_index(*gldv2.load_index(path=write_index(tmp_path)))
    assert "gldv2: train has 2 clients; 233 were published" in caplog.text


@pytest.mark.parametrize("packed", [True, False])
def test_the_index_of_160k(tmp_path, packed):
    if packed:
        with zipfile.ZipFile(tmp_path / "landmarks-user-160k.zip", "w") as archive:
            archive.writestr("landmarks-user-160k/federated_train.csv", TRAIN)
            archive.writestr("landmarks-user-160k/test.csv", TEST)
    else:
        (tmp_path / "federated_train.csv").write_text(TRAIN)
        (tmp_path / "test.csv").write_text(TEST)
    check_index(*gldv2.load_index(path=tmp_path, version="160k"))


def test_photographs_are_found_in_both_layouts(tmp_path):
    image = pytest.importorskip("PIL.Image")
    write_index(tmp_path)
    nested = tmp_path / "images" / "c" / "d" / "3"
    nested.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, [2, 200, 150, 3], dtype=np.uint8)
    # PNG, since JPEG changes pixels; the name is that of the published files.
    image.fromarray(pixels[0]).save(tmp_path / "images" / "ab1.jpg", format="png")
    image.fromarray(pixels[1]).save(nested / "cd3.jpg", format="png")
    train, test = gldv2.load(path=tmp_path, images=tmp_path / "images")
    expected = pixels[:, 36:164, 11:139] / 127.5 - 1
    np.testing.assert_allclose(train["7"]["x"], expected, atol=1e-6)
    assert train["7"]["x"].dtype == np.float32 and train["7"]["y"].tolist() == [3, 202]
    with pytest.raises(FileNotFoundError, match="ef4.jpg"):
        test["test"]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "user,image_id,class\n",
            "has the columns .*: expected image_id, class, user_id",
        ),
        ("user_id,image_id,class\n", "has no rows"),
        (TRAIN + "9,gh5,203\n", "line 5: image_id 'gh5', class '203': expected an id, and a class"),
        (TRAIN + "9,gh5\n", "line 5: image_id 'gh5', class None"),
        (TRAIN + "9,,4\n", "line 5: image_id ''"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    write_index(tmp_path)
    (tmp_path / "mini_gld_train_split.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        gldv2.load_index(path=tmp_path)
    assert "mini_gld_train_split.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"version": "5m"}, ValueError, "version='5m': expected one of 23k, 160k"),
        ({}, FileNotFoundError, "images=None: expected the folder with the photographs"),
        ({"images": "/nowhere"}, FileNotFoundError, "images='/nowhere': expected the folder"),
    ],
)
def test_mistakes(options, error, message):
    with pytest.raises(error, match=message):
        gldv2.load(**options)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mini_gld_train_split.csv"):
        gldv2.load_index(path=tmp_path)
    with pytest.raises(FileNotFoundError, match="federated_train.csv or landmarks-user-160k.zip"):
        gldv2.load_index(path=tmp_path, version="160k")


def test_synthetic_photographs_can_be_learned():
    train, test = gldv2.synthetic(num_clients=12)
    columns = train["client_0"]
    assert -1 <= columns["x"].min() < -0.9 and columns["x"].max() > 0.5
    assert nearest_mean_accuracy(train, test) > 0.9
