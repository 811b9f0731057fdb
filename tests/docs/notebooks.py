"""Executes the notebooks, and stores them with their outputs.

.venv/bin/python -m tests.docs.notebooks            all of them, on the modern stack
"""

import os
import re
import sys
import tempfile
from pathlib import Path

from tests.docs.pages import ROOT

NOTEBOOKS = [
    "docs/notebooks/your-own-data.ipynb",
    "experiments/shakespeare/tutorial.ipynb",
]
# What TensorFlow prints when it is imported, whatever the log level.
_NOISE = re.compile(r"[IW]\d{4} [\d:.]+ +\d+ \S+\] |WARNING: All log messages before absl::")


def execute(name: str, folder: Path):
    """Executes a notebook in a folder.

    Args:
      name: its path, relative to the repository.
      folder: where its files are written.

    Returns:
      The notebook with its outputs, without those messages of TensorFlow that nothing but
      a filter of the process can hide.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / name, as_version=4)
    os.environ["PYTHONPATH"] = str(ROOT)
    client = nbclient.NotebookClient(
        notebook,
        timeout=900,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_without_noise, cell.outputs) if output]
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _without_noise(output):
    if output.output_type != "stream" or output.name != "stderr":
        return output
    lines = output.text.splitlines(keepends=True)
    output.text = "".join(line for line in lines if not _NOISE.match(line))
    return output if output.text.strip() else None


def texts(notebook) -> str:
    """Returns what the code of a notebook has printed."""
    return "\n".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


if __name__ == "__main__":
    import nbformat

    for name in sys.argv[1:] or NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(name, Path(folder)), ROOT / name)
        print(name)
