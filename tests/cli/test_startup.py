"""What TensorFlow prints while it is imported does not reach the reader; errors do."""

import importlib.util
import os
import re
import subprocess
import sys

from fedlab.cli import _startup

INFO = b"I0000 00:00:1796017356.884183    2275 port.cc:153] oneDNN custom operations are on.\n"
START = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
OTHERS = [
    b"E0000 00:00:1796017356.884183    2275 cuda.cc:1] out of memory\n",
    b"F0000 00:00:1796017356.884183    2275 cpu.cc:1] compiled to use AVX instructions\n",
    b"I am no log message\n",
]


def test_lines_are_left_out(capfd):
    with _startup.without_lines(_startup._NOISE):
        for line in (START, INFO, *OTHERS):
            os.write(2, line)
    os.write(2, INFO)
    assert capfd.readouterr().err == b"".join([*OTHERS, INFO]).decode()


def test_an_error_in_the_context_is_raised(capfd):
    try:
        with _startup.without_lines(re.compile(b"a")):
            os.write(2, b"a\nb\n")
            raise ImportError("c")
    except ImportError as error:
        assert str(error) == "c"
    os.write(2, b"a\n")
    assert capfd.readouterr().err == "b\na\n"


def in_a_new_process(tmp_path, tensorflow, **environment):
    """What a process prints that imports a `tensorflow` with this source: (exit code, errors)."""
    (tmp_path / "tensorflow.py").write_text(tensorflow)
    script = (
        "from fedlab.cli._startup import hide_messages_of_tensorflow as hide; hide(); hide()\n"
        "import tensorflow, os; os.write(2, b'I0000 00:00:1.1    2 a.cc:1] later')\n"
        "print(tensorflow.__spec__.name, tensorflow.__file__.endswith('tensorflow.py'))\n"
    )
    root = os.path.dirname(os.path.dirname(importlib.util.find_spec("fedlab").origin))
    path = os.pathsep.join([str(tmp_path), root])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={
            **{k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
            "PYTHONPATH": path,
            "FEDLAB_DEBUG": "0",
            **environment,
        },
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


LATER = b"I0000 00:00:1.1    2 a.cc:1] later"
PRINTS = f"import os\nos.write(2, {INFO + OTHERS[0]!r})\n"


def test_the_import_of_tensorflow(tmp_path):
    code, out, err = in_a_new_process(tmp_path, PRINTS)
    assert (code, out) == (0, b"tensorflow True\n")
    assert err == OTHERS[0] + LATER


def test_the_level_that_the_user_has_set(tmp_path):
    warning = INFO.replace(b"I0000", b"W0000")
    prints = f"import os\nos.write(2, {INFO + warning!r})\n"
    for level, shown in (("0", INFO + warning), ("1", warning), ("2", b"")):
        assert in_a_new_process(tmp_path, prints, TF_CPP_MIN_LOG_LEVEL=level)[2] == shown + LATER


def test_nothing_is_hidden_when_debugging(tmp_path):
    assert in_a_new_process(tmp_path, PRINTS, FEDLAB_DEBUG="1")[2] == INFO + OTHERS[0] + LATER


def test_the_last_message_of_a_process_that_is_aborted(tmp_path):
    """As TensorFlow aborts on a processor without AVX."""
    code, _, err = in_a_new_process(tmp_path, f"{PRINTS}os.abort()\n")
    assert code < 0 and err == OTHERS[0]
