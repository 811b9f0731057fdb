"""Per-client transformations: what they do, and that they depend on the client only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.clients import ClientData, partitioners

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, [6, 8, 8], np.uint8)
COLOR = RNG.random([4, 8, 8, 3]).astype(np.float32)
NAMES = [f"c{i}" for i in range(400)]


def clients(x, names=("ann", "bob", "eve")):
    return ClientData.from_dict({name: {"x": x, "y": np.arange(len(x))} for name in names})


TRANSFORMATIONS = {
    "rotated": lambda data, seed: partitioners.rotated(data, seed),
    "noisy": lambda data, seed: partitioners.noisy(data, 20.0, seed),
    "tinted": lambda data, seed: partitioners.tinted(data, 0.9, seed),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), others=st.sets(st.sampled_from(NAMES), max_size=3))
def test_a_client_is_transformed_alike_among_any_clients(name, seed, others):
    transform = TRANSFORMATIONS[name]
    first = transform(clients(IMAGES, ["ann", *others]), seed)
    second = transform(clients(IMAGES, ["eve", "ann"]), seed)
    for column in ("x", "y"):
        assert (first["ann"][column] == second["ann"][column]).all()
    assert first["ann"]["x"].dtype == np.uint8
    assert (first["ann"]["y"] == np.arange(6)).all()
    assert first.client_ids == ("ann", *others)
    assert first.fingerprint() == transform(clients(IMAGES, ["ann", *others]), seed).fingerprint()


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_clients_differ_and_seeds_differ(name):
    transform = TRANSFORMATIONS[name]
    results = [
        transform(clients(IMAGES, NAMES[:8]), seed)[client_id]["x"].tobytes()
        for seed in (0, 1)
        for client_id in NAMES[:8]
    ]
    assert len(set(results)) >= 4  # of four angles, or 16 levels and gains
    assert results[:8] != results[8:]


def test_rotations_of_right_angles_move_pixels():
    for degrees, turns in ((0, 0), (90, 1), (180, 2), (270, 3), (-90, 3), (450, 1)):
        found = partitioners.rotated(clients(IMAGES), 0, degrees=[degrees])["ann"]["x"]
        assert all((each == np.rot90(image, turns)).all() for each, image in zip(found, IMAGES))
    found = partitioners.rotated(clients(COLOR), 0, degrees=[90])["ann"]["x"]
    assert (found[2, :, :, 1] == np.rot90(COLOR[2, :, :, 1])).all()


def test_each_angle_has_about_as_many_clients():
    image = np.zeros([1, 2, 2], np.uint8)
    image[0, 0, 0] = 1  # which moves to another corner with each angle
    data = partitioners.rotated(clients(image, NAMES), seed=1)
    corners = np.array([data[name]["x"].ravel() for name in NAMES]).sum(axis=0)
    assert corners.sum() == 400 and corners.min() > 70  # binomial: 100, deviation 8.7


def test_other_angles_are_interpolated_in_the_same_direction():
    pytest.importorskip("scipy")
    y, x = np.mgrid[-16:17, -16:17]
    stroke = ((np.abs(y) < 2) & (x > 0)).astype(np.float32)[np.newaxis]  # points to the right
    up = partitioners.rotated(clients(stroke), 0, degrees=[90])["ann"]["x"][0]
    found = partitioners.rotated(clients(stroke), 0, degrees=[30])["ann"]["x"][0]
    angle = np.degrees(np.arctan2(-(found * y).sum(), (found * x).sum()))
    assert angle == pytest.approx(30, abs=1)
    assert (up[:14, 16] == 1).all() and found.sum() == pytest.approx(stroke.sum(), rel=0.05)


def test_the_noise_of_a_client_has_its_level():
    data = partitioners.noisy(clients(np.zeros([50, 100], np.float32), NAMES), 2.0, seed=3)
    deviations = np.array([data[name]["x"].std() for name in NAMES]) / 2.0
    # Uniform levels: their quartiles, with a deviation of sqrt(0.25 * 0.75 / 400) = 0.02.
    assert np.quantile(deviations, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.08)
    assert deviations.min() >= 0 and deviations.max() < 1.03
    # The same level in other data of the client, with other noise.
    test = partitioners.noisy(clients(np.ones([50, 100], np.float32), NAMES[:9]), 2.0, seed=3)
    for i, name in enumerate(NAMES[:9]):
        assert test[name]["x"].std() / 2 == pytest.approx(deviations[i], rel=0.05)
        assert not np.allclose(test[name]["x"] - 1, data[name]["x"], atol=1e-3)


def test_noise_on_integers_is_rounded_and_clipped():
    data = partitioners.noisy(clients(np.full([9, 9], 250, np.uint8), NAMES[:20]), 50.0, seed=0)
    values = np.concatenate([data[name]["x"] for name in NAMES[:20]])
    assert values.dtype == np.uint8 and values.max() == 255 and values.min() > 60


def test_tints_are_one_gain_per_client_and_channel():
    data = partitioners.tinted(clients(COLOR, NAMES), 0.5, seed=0)
    gains = []
    for name in NAMES:
        ratio = data[name]["x"] / COLOR
        assert np.ptp(ratio, axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-5)
        gains.append(ratio[0, 0, 0])
    assert 0.5 <= np.min(gains) and np.max(gains) <= 1
    assert np.mean(gains, axis=0) == pytest.approx([0.75] * 3, abs=0.03)
    gray = partitioners.tinted(clients(IMAGES), 0.5, seed=0)["ann"]["x"]
    assert gray.shape == (6, 8, 8, 3) and gray.dtype == np.uint8
    assert (gray <= IMAGES[..., np.newaxis]).all()
    same = partitioners.tinted(clients(IMAGES[..., np.newaxis]), 0.5, seed=0)["ann"]["x"]
    assert (same == gray).all()


BAD = {
    "clients": (lambda: partitioners.rotated([1], 0), TypeError, "clients: expected a fedlab"),
    "fn": (lambda: partitioners.transformed(clients(IMAGES), 5), TypeError, "fn: expected"),
    "no angles": (
        lambda: partitioners.rotated(clients(IMAGES), 0, degrees=[]),
        ValueError,
        "degrees=[]: expected angles",
    ),
    "an angle": (
        lambda: partitioners.rotated(clients(IMAGES), 0, degrees=["right"]),
        ValueError,
        "degrees='right': expected a finite number",
    ),
    "seed": (lambda: partitioners.noisy(clients(IMAGES), 1.0, None), ValueError, "seed=None"),
    "scale": (lambda: partitioners.noisy(clients(IMAGES), -1.0, 0), ValueError, "scale=-1.0"),
    "strength": (lambda: partitioners.tinted(clients(IMAGES), 2, 0), ValueError, "strength=2"),
    "no column": (
        lambda: partitioners.noisy(clients(IMAGES), 1.0, 0, column="image")["ann"],
        ValueError,
        "column='image': expected one of the columns ['x', 'y'] of client 'ann'",
    ),
    "no numbers": (
        lambda: partitioners.noisy(clients(np.array(["a"], object)), 1.0, 0)["ann"],
        ValueError,
        "client 'ann': column 'x' has dtype object: expected numbers",
    ),
    "no images": (
        lambda: partitioners.rotated(clients(np.zeros([3, 4])), 0)["ann"],
        ValueError,
        "has shape [3, 4]: expected images, [n, height, width]",
    ),
    "not square": (
        lambda: partitioners.rotated(clients(np.zeros([3, 4, 5])), 0, degrees=[90])["ann"],
        ValueError,
        "has images of 4 x 5 pixels: expected square images",
    ),
    "channels": (
        lambda: partitioners.tinted(clients(np.zeros([3, 4, 4, 2])), 0.5, 0)["ann"],
        ValueError,
        "has 2 channels: expected 1 or 3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input(name):
    make, error, message = BAD[name]
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value) and "\n" not in str(raised.value)
