"""`fedlab datasets show`: its table, partitions and picture, for data without TensorFlow."""

import subprocess
import sys

import pytest

import fedlab as fl
from fedlab import cli

SHAKESPEARE = ["datasets", "show", "shakespeare", "--source=synthetic", "--split=train"]


def rows(capsys):
    """The first word of each line of the output -> the line's words."""
    return {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}


def test_show(capsys):
    assert cli.main([*SHAKESPEARE, "--num_clients=3"]) == 0
    found = rows(capsys)
    train, _ = fl.datasets.shakespeare.synthetic(num_clients=3)
    sizes = [train.num_examples(client_id) for client_id in train]
    assert found["shakespeare,"][1:] == ["train,", "source", "synthetic"]
    assert found["clients"] == ["clients", "3"]
    assert found["examples"][1] == str(min(sizes)) and found["examples"][7] == str(max(sizes))
    assert found["y"] == ["y", "int32", "[100]", "0"]
    assert "'e'" in found  # characters by their names


def test_show_divided(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "data.png"
    more = ["--partitioner=uniform(num_clients=4)", "--seed=3", f"--output={picture}"]
    assert cli.main([*SHAKESPEARE, "--num_clients=3", *more]) == 0
    found = rows(capsys)
    train, _ = fl.datasets.shakespeare.synthetic(num_clients=3)
    total = sum(train.num_examples(client_id) for client_id in train)
    assert found["divided"] == "divided by uniform(num_clients=4, seed=3)".split()
    assert found["clients"] == ["clients", "4"]
    assert found["examples"][1] == str(total // 4)
    assert picture.read_bytes()[:4] == b"\x89PNG" and str(picture) in found


def test_the_former_clients_are_a_column(capsys):
    assert cli.main([*SHAKESPEARE, "--num_clients=3", "--partitioner=natural('client')"]) == 0
    divided = capsys.readouterr().out.splitlines()[2:]
    assert cli.main([*SHAKESPEARE, "--num_clients=3"]) == 0
    assert divided == capsys.readouterr().out.splitlines()[1:]


def test_the_other_forms_are_as_before(capsys):
    assert cli.main(["datasets", "shakespeare", "--source=synthetic", "--num_clients=3"]) == 0
    found = rows(capsys)
    assert found["clients"] == ["clients", "3"] and "characters" in found


def test_tensorflow_is_not_imported():
    program = (
        "import sys; from fedlab import cli; "
        f"cli.main({SHAKESPEARE!r}); "
        "sys.exit('tensorflow' in sys.modules or 'pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
