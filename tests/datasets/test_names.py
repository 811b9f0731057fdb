"""All data sets: named in the documentation, and found without slow imports."""

import inspect
import pathlib
import re
import subprocess
import sys

import pytest

from fedlab import datasets

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_data_set_is_in_the_documentation():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == list(datasets.names())


@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_has_the_same_interface(name):
    module = datasets.get(name)
    load = inspect.signature(module.load).parameters
    assert next(iter(load)) == "source" and load["path"].default is None
    synthetic = inspect.signature(module.synthetic).parameters
    assert list(synthetic)[:2] == ["num_clients", "seed"]
    with pytest.raises(ValueError, match="source='nosuch': expected one of .*synthetic"):
        module.load("nosuch")


SOURCES = [
    (name, source)
    for name in datasets.names()
    for source in getattr(datasets.get(name), "SOURCES", ())
    if source not in ("synthetic", "tfds")
]


@pytest.mark.parametrize("name, source", SOURCES)
def test_wrong_files_are_named_in_one_line(tmp_path, name, source):
    (tmp_path / "text.txt").write_text("to be or not\n")
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in ("text.txt", "empty.bin", "folder", "missing"):
        with pytest.raises((ValueError, FileNotFoundError), match=path) as error:
            datasets.get(name).load(source, path=tmp_path / path)
        assert "\n" not in str(error.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty.bin", "folder", "text.txt"]


def test_data_sets_are_imported_without_heavy_libraries():
    names = [name for name in datasets.names() if name != "squad"]
    code = (
        f"import sys; from fedlab import datasets; [datasets.get(name) for name in {names}]\n"
        "print([m for m in ('tensorflow', 'pandas', 'pyarrow', 'h5py', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_the_first_example_of_the_documentation_runs():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    first = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[0]
    names: dict = {}
    exec(first, names)
    assert len(names["run"].history) == 3 and len(names["train"]) == 10
