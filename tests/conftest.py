"""Fixtures and options of all tests."""

import gc
import os
import pathlib

# Set before TensorFlow is imported, to silence its messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import pytest

# The same examples in every run, however busy the machine is.
hypothesis.settings.register_profile(
    "fedlab",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("fedlab")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """No test reads or writes the user's cache."""
    os.environ["FEDLAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data, which is not in the repository; without it the test is skipped."""
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(os.environ.get("FEDLAB_SHARED", root.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip("no shared data: set FEDLAB_SHARED to the folder that holds data/")
    return folder


def pytest_collection_finish(session):
    """Keeps the garbage collector from visiting the modules that were imported so far.

    TensorFlow has so many objects that full collections take a good part of the time.
    """
    gc.collect()
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        "--kills",
        type=int,
        default=40,
        help="how often the slow test of SIGKILL kills a run (default: 40)",
    )


@pytest.fixture
def num_kills(request):
    return request.config.getoption("--kills")
