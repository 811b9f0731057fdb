"""data.json in the folder of a run, and the section of the report that shows it."""

import html
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab.data import description_json
from tests.quadratics import linear_model, points


def simulate(folder, clients, rounds=1):
    model = linear_model(1, tf.keras.optimizers.SGD(0.1))
    return fl.simulate(
        model, clients, rounds=rounds, clients_per_round=2, run_dir=folder, progress=False
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of five clients with 1, 2, ... examples, all of the label 0, 1, ..."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    simulate(folder, points(range(5), range(1, 6)))
    return folder


def section(folder):
    page = (folder / "report.html").read_text()
    return page[page.index("<h2>Data") :].split("</section>")[0]


def text(part):
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", part)).split())


def test_a_run_records_what_its_clients_have(whole):
    found = description_json.read(whole / "data.json")
    assert found.client_ids == ("c0", "c1", "c2", "c3", "c4") and found.num_clients == 5
    assert found.num_examples.tolist() == [1, 2, 3, 4, 5]
    assert found.labels == ("0", "1", "2", "3", "4")
    assert found.counts.tolist() == np.diag([1, 2, 3, 4, 5]).tolist()
    # A client of one label of share n / 15 is at the distance 2 (1 - n / 15).
    assert found.distances == pytest.approx([2 - 2 * n / 15 for n in range(1, 6)], abs=1e-6)


def test_the_report_shows_it(whole):
    part = section(whole)
    assert part.count("<svg") == 3 and part.count("class=long") == 1
    shown = text(re.sub("<svg.*?</svg>", "", part, flags=re.DOTALL))
    assert "clients 5 examples 15 different labels (y) 5" in shown
    assert "examples 1 1.200 2 3 4 4.800 5 3" in shown
    assert "0: 1" not in shown and "4 5 33.3 % 1" in shown  # label 4: five of 15, at one client
    assert "mean 1.6" in shown and "chosen at random" not in shown
    assert "Labels by client: 5 clients" in shown
    assert "c4" in text(part) and "33%" not in text(part)  # shares at a client are 100%


def test_of_many_clients_a_sample_is_shown(tmp_path):
    clients = points([i % 3 for i in range(1100)], [2] * 1100)
    simulate(tmp_path / "run", clients)
    part = section(tmp_path / "run")
    assert "Numbers are those of 1,000 clients, chosen at random" in text(part)
    assert "Labels by client: 1,000 of 1,100 clients" in text(part)
    assert (tmp_path / "run" / "data.json").stat().st_size < 100_000
    assert (tmp_path / "run" / "report.html").stat().st_size < 500_000


@pytest.mark.slow
def test_a_resumed_run_keeps_it(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    before = (folder / "data.json").read_bytes()
    simulate(folder, points(range(5), range(1, 6)), rounds=2)
    assert (folder / "data.json").read_bytes() == before
    (folder / "data.json").unlink()  # as in a folder of an earlier version
    simulate(folder, points(range(5), range(1, 6)), rounds=3)
    assert (folder / "data.json").read_bytes() == before


def test_a_run_without_it_has_no_section(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "data.json").unlink()
    fl.write_report(folder)
    assert "<h2>Data" not in (folder / "report.html").read_text()


def test_a_damaged_file_is_named(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "data.json").write_bytes((whole / "data.json").read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"data\.json is damaged \(.*\): delete it") as raised:
        fl.write_report(folder)
    assert "\n" not in str(raised.value)


def test_names_do_not_become_markup(tmp_path):
    evil = '</svg><script>alert("x")</script>$'
    data = points(range(3), [2] * 3)
    simulate(tmp_path / "run", fl.ClientData.from_dict({f"{n}{evil}": data[n] for n in data}))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script" not in page and "&lt;script" in page
