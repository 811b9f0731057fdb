"""report.html: what it holds, that it is one file and runs nothing, and how a browser draws it."""

import html
import html.parser
import json
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
import tensorflow as tf

import fedlab as fl
from fedlab import _extras
from fedlab._wording import number
from tests.quadratics import linear_model, points
from tests.runs.tables import sign

EVIL = '</svg><script>alert("x")</script>'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run with all sections of a report; names and texts contain markup."""
    folder = tmp_path_factory.mktemp("runs") / "run & <more>"
    plain = points(range(12), [2] * 12)
    clients = fl.ClientData.from_dict({f"{name} {EVIL}": plain[name] for name in plain})
    model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
    model.compile(model.optimizer, loss="mse", metrics=["mae"])
    aggregator = fl.aggregators.differentially_private(
        1.0, 6, 12, norm=1.0, delta=1e-3, sampling="uniform"
    )
    sets = {"central": clients, f"$each$ {EVIL}": fl.per_client(clients, clients)}
    run = fl.simulate(
        model,
        clients,
        fl.algorithms.fed_avg(client_weighting="uniform"),
        aggregator=aggregator,
        conditions=fl.clients.dropouts(0.2),
        rounds=3,
        clients_per_round=6,
        evaluate_on=sets,
        run_dir=folder,
        progress=False,
    )
    assert (folder / "report.html").is_file()
    fl.write_samples(
        folder, [{"title": "Before", "text": EVIL}, {"title": "After", "text": "O, speak again"}]
    )
    return folder, run


class Page(html.parser.HTMLParser):
    """The tags of a page, and the texts below each heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._heading = [], {}, None
        self._in_heading = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in_heading = tag == "h2"

    def handle_endtag(self, tag):
        self._in_heading = False

    def handle_data(self, data):
        if self._in_heading:
            self._heading = data
        self.texts.setdefault(self._heading, []).append(data)

    def text(self, heading):
        return " ".join(" ".join(self.texts[heading]).split())


@pytest.fixture(scope="module")
def page(made):
    return Page((made[0] / "report.html").read_text())


def test_every_section_is_there(page, made):
    name = f"Clients: $each$ {EVIL}"
    assert [heading for heading in page.texts if heading] == [
        "Samples",
        "Learning curves",
        name,
        "Model",
        "Data",
        "Participation",
        "Communication",
        "Privacy",
        "Settings",
    ]
    history = made[1].history
    assert f"ε = {number(history[-1]['epsilon'])} after round 3" in page.text("Privacy")
    assert f"loss better by {number(history[-1][f'$each$ {EVIL}_loss_gain'])}" in page.text(name)
    asked = sum(row.get("clients_asked", 0) for row in history)
    assert f"{asked * 8} bytes to clients" in page.text(None)  # one weight in float64
    assert "O, speak again" in page.text("Samples")
    assert "batching.batch_size 8" in page.text("Settings")


def test_nothing_in_the_data_becomes_markup(page, made):
    text = (made[0] / "report.html").read_text()
    tags = {tag for tag, _ in page.tags}
    assert (
        "script" not in tags
        and "<script" not in text
        and EVIL not in text
        and "&lt;script&gt;" in text
    )
    assert "run & <more>" in page.text(None)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_nothing_in_the_folder_becomes_markup(made, tmp_path):
    """Hostile names and values that no run writes, in every place that is shown."""
    folder = shutil.copytree(made[0], tmp_path / f"run {EVIL.replace('/', '∕')}")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        f"setting {EVIL}": f"value {EVIL}",
        "algorithm_settings": {EVIL: {EVIL: EVIL}},
        "model": [EVIL],
        "commit": EVIL,
    }
    config["versions"] |= {EVIL: EVIL}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "samples.json").write_text(
        json.dumps([{"title": f"title {EVIL}", "text": f"text {EVIL}"}])
    )
    (folder / f"probe_{EVIL.replace('/', '∕')}.png").write_bytes(
        tf.io.encode_png(np.zeros([2, 2, 3], np.uint8)).numpy()
    )
    connection = sqlite3.connect(folder / "clients.sqlite")
    for round_num, row in connection.execute("SELECT round, row FROM rounds").fetchall():
        row = {**json.loads(row), f"central_{EVIL}": 0.5}
        connection.execute(
            "UPDATE rounds SET row = ? WHERE round = ?", (json.dumps(row), round_num)
        )
    connection.execute("UPDATE clients SET dropped = 1, reason = ? WHERE round = 1", (EVIL,))
    connection.execute("UPDATE evaluations SET metric = ? WHERE metric = 'mae'", (EVIL,))
    sign(connection)
    connection.close()
    text = fl.write_report(folder).read_text()
    found = Page(text)
    assert (
        "script" not in {tag for tag, _ in found.tags}
        and "<script" not in text
        and EVIL not in text
    )
    assert {tag for tag, _ in found.tags} == {
        tag for tag, _ in Page((made[0] / "report.html").read_text()).tags
    } | {"img"}
    assert not [
        name for _, attributes in found.tags for name in attributes if name.startswith("on")
    ]
    shown = html.unescape(text)
    for part in (
        f"setting {EVIL}",
        f"value {EVIL}",
        f"title {EVIL}",
        f"text {EVIL}",
        f"{EVIL} on central is 0.5000 in every evaluation",
    ):
        assert part in shown, part
    assert (
        "Content-Security-Policy" in text and "default-src 'none'" in text
    )  # a browser would not run it either


def test_it_needs_no_other_file(page, made):
    text = (made[0] / "report.html").read_text()
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    ]
    assert all(link.startswith(("#", "data:")) for link in links) and "link" not in dict(page.tags)
    assert not re.findall(r"url\((?!#)", text) and "@import" not in text


def test_every_picture_is_sound_and_of_its_own_names(page, made):
    pictures = re.findall(r"<svg.*?</svg>", (made[0] / "report.html").read_text(), re.DOTALL)
    assert (
        len(pictures) == 2 * 3 + 2 + 2 + 2 + 1 + 1
    )  # two metrics by round, bytes and seconds; clients; data without the sizes, which are
    # equal; participation; bytes; privacy
    ids = []
    for picture in pictures:
        root = xml.etree.ElementTree.fromstring(picture)
        ids += [element.get("id") for element in root.iter() if element.get("id")]
        assert len([*root.iter("{http://www.w3.org/2000/svg}text")]) > 3
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(made, tmp_path):
    first, second = (
        fl.write_report(made[0], tmp_path / name).read_bytes() for name in ("a.html", "b.html")
    )
    assert first == second == (made[0] / "report.html").read_bytes()


def test_the_probes_pictures_are_in_it(made, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "run")
    picture = tf.io.encode_png(np.zeros([2, 2, 3], np.uint8)).numpy()
    (folder / "probe_loss.png").write_bytes(picture)
    (folder / "other.png").write_bytes(picture)
    sources = [
        attributes["src"]
        for tag, attributes in Page(fl.write_report(folder).read_text()).tags
        if tag == "img"
    ]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")


def test_what_a_probe_has_kept_is_drawn(tmp_path):
    clients = points([2, 4], [3, 1])
    model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
    probe = fl.question_answering.Probe(clients.to_arrays(["c0"]), tmp_path / "run" / "probe.npz")
    options = dict(
        rounds=1,
        clients_per_round=1,
        evaluate_on={"probe": probe},
        run_dir=tmp_path / "run",
        progress=False,
    )
    fl.simulate(model, clients, **options)
    page = Page((tmp_path / "run" / "report.html").read_text())
    titles = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert titles == [
        "probe loss",
        "probe output 0",
        "probe output 1",
        "probe output 2",
        "probe weights",
    ]
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "figure"][-5:] == [
        None,
        "long",
        "long",
        "long",
        None,
    ]
    assert "probe: examples 3" in (tmp_path / "run" / "report.html").read_text()
    assert not [*(tmp_path / "run").glob("*.png")]


def test_a_run_without_evaluation_shows_the_clients_train_losses(tmp_path):
    clients = points([2, 4], [3, 1])
    model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
    fl.simulate(
        model, clients, rounds=1, clients_per_round=2, run_dir=tmp_path / "run", progress=False
    )
    found = Page((tmp_path / "run" / "report.html").read_text())
    assert "The train loss of each client when it last took part" in found.text("Clients")
    assert "c1 1 9" in found.text("Clients")  # one example; (1 - 4)^2, before its step


def test_samples_are_checked(made):
    for samples in ({}, ["text"], [{"title": "Before"}], [{"title": "Before", "text": 3}]):
        with pytest.raises(ValueError, match="samples=.*: expected a list of"):
            fl.write_samples(made[0], samples)


@pytest.mark.slow
def test_damaged_samples_do_not_fail_a_run(tmp_path, caplog):
    clients = points([2], [1])
    for rounds in (1, 2):
        model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
        fl.simulate(
            model,
            clients,
            rounds=rounds,
            clients_per_round=1,
            run_dir=tmp_path / "run",
            progress=False,
        )
        (tmp_path / "run" / "samples.json").write_text("[")
    assert "no report.html is written" in caplog.text and "samples.json is damaged" in caplog.text
    assert (tmp_path / "run" / "model.keras").is_file()


def test_without_the_libraries_there_is_a_line_and_no_report(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(_extras, "_said", set())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    clients = points([2], [1])
    with caplog.at_level(logging.INFO, "fedlab"):
        model = linear_model(1, tf.keras.optimizers.SGD(0.125), 1.0)
        fl.simulate(
            model, clients, rounds=1, clients_per_round=1, run_dir=tmp_path / "run", progress=False
        )
    assert "report.html is not written: matplotlib is not installed" in caplog.text
    assert not (tmp_path / "run" / "report.html").exists()
    with pytest.raises(ModuleNotFoundError, match="reports need matplotlib, which"):
        fl.write_report(tmp_path / "run")


MEASURE = """<!DOCTYPE html><html><body style="margin:0">
<iframe id="page" style="border:0;width:WIDTHpx;height:800px"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("page");
frame.onload = () => {
  const inner = frame.contentDocument;
  const box = e => { const r = e.getBoundingClientRect(); return r.width > 100 && r.height > 60; };
  const drawn = e => e.tagName == "IMG" ? e.complete && e.naturalWidth > 0
    : e.querySelectorAll("path").length > 5 && box(e);
  const pictures = [...inner.querySelectorAll("figure svg, figure img")];
  document.getElementById("found").textContent = "FOUND" + JSON.stringify({
    pictures: pictures.length, drawn: pictures.filter(drawn).length,
    width: inner.documentElement.scrollWidth,
    sections: inner.querySelectorAll("section").length}) + "END";
};
frame.srcdoc = PAGE;
</script></body></html>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_draws_it(made, tmp_path, width):
    """Every picture is drawn, nothing is wider than the page, and the console is silent."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on the path")
    folder = shutil.copytree(made[0], tmp_path / "run")
    (folder / "probe_loss.png").write_bytes(
        tf.io.encode_png(np.zeros([60, 90, 3], np.uint8)).numpy()
    )
    text = json.dumps(fl.write_report(folder).read_text()).replace("</", "<\\/")
    (tmp_path / "measure.html").write_text(
        MEASURE.replace("WIDTH", str(width)).replace("PAGE", text)
    )
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--virtual-time-budget=10000",
            "--window-size=1300,900",
            "--dump-dom",
            (tmp_path / "measure.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(
        re.search(r"FOUND(\{.*?\})END</pre>", done.stdout).group(1).replace("&quot;", '"')
    )
    assert found["pictures"] == found["drawn"] == 15 and found["sections"] == 10
    assert found["width"] <= width
    assert "CONSOLE" not in done.stderr, done.stderr
