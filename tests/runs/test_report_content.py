"""What a report says of a run of which every number is known. Needs no TensorFlow."""

import csv
import html
import io
import json
import re

import pytest

from fedlab.runs.read import chosen, comparison, recorded, report_model, results, summary
from fedlab.runs.read.report import write_report
from tests.runs.made_run import CLIENTS, make_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder).read_text()


def words(part):
    """The text of a part of a page, without that of pictures."""
    part = re.sub("<svg.*?</svg>", " ", part, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", part)).split())


def section(page, title):
    (found,) = re.findall(rf"<h2>{title}</h2>(.*?)</section>", page, flags=re.DOTALL)
    return found


def captions(part):
    return [words(each) for each in re.findall("<figcaption>(.*?)</figcaption>", part)]


def rows(part, head):
    """The rows of the first table whose first heading is `head`."""
    tables = re.findall("<table.*?</table>", part, flags=re.DOTALL)
    first = f'<tr role="row"><th role="columnheader" scope="col">{head}<'
    found = next(each for each in tables if first in each)
    lines = re.findall("<tr.*?</tr>", found, flags=re.DOTALL)
    return [[words(cell) for cell in re.findall("<td.*?</td>", line)] for line in lines[1:]]


def test_it_opens_with_what_was_done_and_gained(page):
    story = words(re.search('<p class="story">(.*?)</p>', page, flags=re.DOTALL)[1])
    assert story == (
        "The model “triage” (56 parameters; 40 of them not trained; layers Dense, Dense) was "
        "trained with FedAvg (clients train, and the server averages) on 3 clients, 2 per round, "
        "for 4 rounds, in 28 s of training. Accuracy on new clients (60 examples of 57 clients, "
        "none of which trains) rose from 0.2500 to 0.6250 (+0.375)."
    )


def test_tiles_show_the_change_by_sign_word_and_color(page):
    tiles = words(re.search('<dl class="tiles">(.*?)</dl>', page, flags=re.DOTALL)[1])
    assert "accuracy on new clients 0.6250 +0.375 ▲ better 0.2500 before" in tiles
    assert "best: 0.7500 in round 3" in tiles
    assert "loss on new clients 0.7500 −1.25 ▼ better 2 before" in tiles
    assert page.count("<b class=better>") == 2 and "<b class=worse>" not in page
    assert "training time 28 s 2 s per round, without evaluation" in tiles
    assert "would be sent 8 kB 4 kB to clients, 4 kB from them" in tiles


def test_a_loss_that_rises_is_worse():
    worse = results.Change("test", "loss", 1.0, 1.5)
    assert (worse.verdict, worse.difference) == ("worse", "+0.5")
    assert worse.sentence() == "Loss on test rose from 1 to 1.500 (+0.5), which is worse"
    better = results.Change("test", "accuracy", 0.5, 0.75)
    assert (better.verdict, better.difference) == ("better", "+0.25")
    same = results.Change("test", "f1", 0.5, 0.5)
    assert same.verdict == "no change" and same.sentence() == (
        "F1 on test did not change: it is 0.5000"
    )
    unknown = results.Change("test", "loss", 1.0, float("inf"))
    assert (unknown.verdict, unknown.difference) == ("", "")


def test_a_comparison_is_the_main_result(tmp_path):
    folder = make_run(tmp_path / "run")
    about = {
        "examples": 1000,
        "clients": 257,
        "training": 0,
        "before": {"loss": 2.0, "accuracy": 0.5},
        "after": {"loss": 2.5, "accuracy": 0.625},
    }
    results.write_comparison(folder, {"new_clients": about})
    page = (folder / "report.html").read_text()
    story = words(re.search('<p class="story">(.*?)</p>', page, flags=re.DOTALL)[1])
    assert story.endswith(
        "Accuracy on new clients (1,000 examples of 257 clients, none of which trains) rose from "
        "0.5000 to 0.6250 (+0.125)."
    )
    tiles = words(re.search('<dl class="tiles">(.*?)</dl>', page, flags=re.DOTALL)[1])
    assert "loss on new clients 2.500 +0.5 ▲ worse 2 before" in tiles and "0.7500" not in tiles


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"test": {"before": {"loss": 1.0}}},
        {"test": {"before": {"loss": 1.0}, "after": {}}},
        {"test": {"before": {"loss": "1"}, "after": {"loss": 1.0}}},
        {"test": {"before": {}, "after": {}, "examples": -1}},
        {"\ud800": {"before": {}, "after": {}}},
    ],
)
def test_comparisons_are_checked(folder, tmp_path, wrong):
    with pytest.raises(ValueError, match="comparison=.*: expected {set: "):
        results.write_comparison(folder, wrong)
    assert not (folder / results.FILE).exists()
    other = make_run(tmp_path / "run")
    (other / results.FILE).write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="comparison.json holds .*: expected {set: "):
        write_report(other)


def test_the_text_samples_and_curves_by_round_come_first(page):
    curves = section(page, "Learning curves")
    shown, *collapsed = curves.split("<details>")
    assert captions(shown) == ["loss by round", "accuracy by round"]
    assert [words(each)[:29] for each in collapsed] == [
        "Learning curves by bytes What",
        "Learning curves by training t",
    ]
    assert captions(collapsed[0]) == ["loss by kB sent", "accuracy by kB sent"]
    assert captions(collapsed[1]) == ["loss by seconds", "accuracy by seconds"]
    assert page.index("<h2>Learning") < page.index("<h2>Clients") < page.index("<h2>Settings")


def test_sets_are_explained(page):
    table = rows(section(page, "Learning curves"), "set")
    assert table == [
        ["train", "the training examples of each round's clients, measured while they train"],
        ["new clients", "60 examples of 57 clients, none of which trains"],
        [
            "each",
            "3 clients (all of which may train), evaluated one by one; means are weighted by "
            "examples",
        ],
    ]


def test_compilation_is_left_out_of_the_time_axis(folder, page, tmp_path):
    from fedlab.runs.read import report_curves

    run = recorded.read_run(folder)
    assert summary.compilation_seconds(run) == 18.0  # 20 less the median of 2, 2 and 4
    assert report_curves.seconds(run) == {0: 0.0, 1: 2.0, 2: 4.0, 3: 6.0, 4: 10.0}
    assert (
        "Round 1 took 20 s. About 18 s of that was the compilation of the graph, which the axis "
        "leaves out."
    ) in words(section(page, "Learning curves"))
    even = recorded.read_run(make_run(tmp_path / "even", seconds=(2.0, 2.0, 2.0, 2.0)))
    assert summary.compilation_seconds(even) == 0
    short = recorded.read_run(make_run(tmp_path / "short", rounds=2))
    assert summary.compilation_seconds(short) == 0  # one other round says nothing


def test_charts_without_information_are_left_out(folder, page, tmp_path):
    participation = section(page, "Participation")
    assert captions(participation) == ["How often clients took part"]
    assert "2 clients finished every round." in words(participation)
    bytes_sent = section(page, "Communication")
    assert captions(bytes_sent) == [] and "In this simulation nothing was sent" in bytes_sent
    assert "Every round takes 1 kB down and 1 kB up." in words(bytes_sent)
    assert "Accuracy on each is 0.5000 in every evaluation" not in page  # the other set changes

    config = {"evaluation_examples": {"new_clients": 60, "other": 60}, "evaluation_clients": None}
    twins = make_run(tmp_path / "twins", config=config, rows={"other_constant": 0.5})
    run = recorded.read_run(twins)
    for row in run.history:
        row["other_loss"] = row["new_clients_loss"]
    from fedlab.runs.read import report_curves

    found = report_curves.learning_curves(run)
    assert "other loss has the same values as new clients loss." in found["lead"]
    assert "Constant on other is 0.5000 in every evaluation." in found["lead"]
    assert [each["title"] for each in found["pictures"]] == ["loss by round", "accuracy by round"]
    assert found["pictures"][0]["svg"].count(">new clients</text>") == 1
    assert found["pictures"][0]["svg"].count(">other</text>") == 0


def test_clients_are_ranked_by_their_evaluation(page):
    table = rows(section(page, "Clients: each"), "worst-served clients")
    order = sorted(CLIENTS, key=lambda client_id: CLIENTS[client_id][0])
    assert order == ["bob", "cat & <dog>", "ann"]
    assert table == [
        ["bob", "12", "0.5000", "0.2500"],
        ["cat & <dog>", "8", "0.1250", "0.5000"],
        ["ann", "10", "0.5000", "0.7500"],
    ]


def test_without_it_they_are_ranked_by_their_train_loss(tmp_path):
    config = {"evaluation_examples": {"new_clients": 60}, "evaluation_clients": None}
    page = write_report(make_run(tmp_path / "run", config=config)).read_text()
    table = rows(section(page, "Clients"), "worst-served clients")
    assert table == [["bob", "12", "0.7500"], ["ann", "10", "0.2500"]]


def test_every_cell_names_its_column(page):
    """On a phone, tables of three or more columns become lists."""
    for table in re.findall('<table role="table" class="[^"]*stacked">.*?</table>', page, re.S):
        head = re.findall('scope="col">(.*?)</th>', table)
        labels = re.findall('data-label="(.*?)"', table)
        assert len(head) > 2 and labels == head * (len(labels) // len(head))
    assert "stacked" in page


def test_settings_that_the_user_chose(folder, page):
    config = recorded.read_run(folder).config
    assert chosen.chosen(config) == {
        "cohort.name": "uniform",
        "cohort.clients_per_round": 2,
        "algorithm": "fed_avg",
        "algorithm_settings.server_learning_rate": 0.5,
        "batching.batch_size": 16,
        "optimizer.class": "SGD",
        "optimizer.learning_rate": 0.10000000149011612,
        "loss.class": "MeanSquaredError",
    }
    shown, collapsed = section(page, "Settings").split("<details>")[:2]
    assert ["batching.batch_size", "16"] in rows(shown, "setting")
    assert not any(name == "batching.epochs" for name, _ in rows(shown, "setting"))
    assert ["batching.epochs", "1"] in rows(collapsed, "setting")


def test_defaults_are_those_of_the_code():
    """The reader takes them from the source code, since importing needs Keras."""
    import inspect

    import fedlab as fl
    from fedlab.clients import Batching

    arguments = inspect.signature(fl.simulate).parameters
    for setting, argument in chosen._ARGUMENTS.items():
        default = arguments[argument].default
        assert setting not in chosen.chosen(_nested({setting: default})), setting
        assert setting in chosen.chosen(_nested({setting: "other"})), setting
    assert {f"batching.{name}" for name in Batching._fields} <= chosen._ARGUMENTS.keys()
    algorithm = fl.algorithms.fed_avg(server_momentum=0.5)
    config = {"algorithm": algorithm.name, "algorithm_settings": dict(algorithm.settings)}
    assert chosen.chosen(config) == {
        "algorithm": "fed_avg",
        "algorithm_settings.server_momentum": 0.5,
    }


def _nested(settings):
    found = {}
    for name, value in settings.items():
        first, dot, rest = name.partition(".")
        found[first] = {rest: value} if dot else value
    return found


def test_the_model_is_drawn(folder, page):
    layers, others = report_model.layers(recorded.read_run(folder))
    assert others == 0 and [layer["share"] for layer in layers] == [40 / 56, 16 / 56]
    model = words(section(page, "Model"))
    assert "Dense frozen features units 8 output 8 40 parameters" in model
    assert "Dense scores units 2 output 2 16 parameters" in model
    assert page.count('<span class="badge">frozen</span>') == 1
    assert "71.4 % of all parameters" in section(page, "Model")


def test_connections_lead_through_hidden_layers():
    layers = [
        {"class": "InputLayer", "name": "x", "trainable": True, "inbound_nodes": []},
        *(
            {
                "class": "Reshape",
                "name": f"reshape_{i}",
                "trainable": True,
                "inbound_nodes": [[["x" if i == 0 else f"reshape_{i - 1}", 0, 0, {}]]],
            }
            for i in range(20)
        ),
        {"class": "Dense", "name": "a", "trainable": True, "inbound_nodes": [["reshape_19", 0]]},
        {"class": "Dense", "name": "b", "trainable": True, "inbound_nodes": [["x", 0], ["a", 0]]},
    ]
    run = recorded.RecordedRun(None, {"layers": layers}, [], [], True)
    shown, others = report_model.layers(run)
    assert [layer["name"] for layer in shown] == ["x", "a", "b"] and others == 20
    # "a" reads the layer before it, through 20 hidden ones.
    assert [layer["inputs"] for layer in shown] == [[], [], ["x", "a"]]


def test_the_numbers_are_those_of_the_exported_table(folder, capsys):
    from fedlab import cli

    assert cli.main(["runs", "export", str(folder)]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    tiles = {tile["title"]: tile for tile in summary.tiles(recorded.read_run(folder))}
    tile = tiles["accuracy on new clients"]
    assert float(tile["value"]) == float(table[-1]["new_clients_accuracy"])
    assert float(tile["before"]) == float(table[0]["new_clients_accuracy"])


def test_a_page_for_several_runs(folder, tmp_path, capsys):
    from fedlab import cli

    other = make_run(
        tmp_path / "lower <b>",
        rounds=3,
        config={"batching": {"batch_size": 32, "epochs": 1}, "evaluation_clients": None},
    )
    file = tmp_path / "page.html"
    arguments = ["runs", "compare", str(folder), str(other), f"--report={file}"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.endswith(f"\n{file}\n")
    page = file.read_text()
    assert "<b>" not in re.sub("<b>[^<]*</b>", "", page.split("<body>")[1].split("<main>")[1])
    differing = rows(section(page, "Settings that differ"), "setting")
    assert ["batching.batch_size", "16", "32"] in differing
    table = rows(section(page, "Results"), "run")
    assert [row[1:4] for row in table] == [
        ["4", "0.6250", "★ 0.5000"],
        ["3", "★ 0.7500", "★ 0.5000"],
    ]
    shown, *collapsed = section(page, "Learning curves").split("<details>")
    assert "accuracy on new clients by round" in captions(shown) and len(collapsed) == 2
    clients = section(page, "Clients: each")
    assert len(captions(clients)) == 1
    assert len(rows(clients, "clients that differ most")) == 3
    assert "<script" not in page
    assert set(re.findall(r"https?://[\w.]*", page)) <= {"http://www.w3.org"}  # names of SVG


def test_per_client_differences(folder, tmp_path):
    other = recorded.read_run(make_run(tmp_path / "other"))
    run = recorded.read_run(folder)
    values = {"accuracy": {"ann": 0.5, "bob": 0.5, "dan": 1.0}}
    table = comparison._differences(
        (0, run, "a", 4, {"accuracy": {"ann": 0.75, "bob": 0.25 + 1e-3, "eve": 0.0}}),
        (1, other, "b", 4, values),
        "accuracy",
    )
    assert table["head"] == ["clients that differ most", "examples", "a", "b", "difference"]
    assert table["rows"] == [
        ["ann", "10", "0.7500", "0.5000", "−0.25"],
        ["bob", "12", "0.2510", "0.5000", "+0.249"],
    ]


@pytest.mark.parametrize("name", ["page.txt", "page"])
def test_the_page_needs_a_name_of_a_page(folder, tmp_path, capsys, name):
    from fedlab import cli

    arguments = ["runs", "compare", str(folder), str(folder), f"--report={tmp_path / name}"]
    assert cli.main(arguments) == 2
    assert "expected a name that ends in .html" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_colors_have_enough_contrast(page):
    """WCAG AA: 4.5 for text, 3 for lines, on the page and on cards, in both themes."""
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", each)) for each in _themes(page))
    dark = {**light, **dark}
    assert light["back"] == "#ffffff" and dark["back"] != light["back"]
    for theme in (light, dark):
        for back in (theme["back"], theme["card"]):
            for name in ("text", "soft", "good", "bad", "open", "link"):
                assert _contrast(theme[name], back) >= 4.5, (name, back)
            for i in range(8):
                assert _contrast(theme[f"c{i}"], back) >= 3, (i, back)


def _themes(page):
    style = page.split("<style>")[1].split("</style>")[0]
    return re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)


def _contrast(a, b):
    a, b = sorted(map(_luminance, (a, b)))
    return (b + 0.05) / (a + 0.05)


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts))


def test_old_folders_without_the_new_entries(tmp_path):
    removed = dict.fromkeys(("evaluation_clients", "layer_table", "model_name"))
    page = write_report(make_run(tmp_path / "run", config=removed)).read_text()
    assert "A Keras model (56 parameters; " in page
    assert ["new clients", "60 examples"] in rows(section(page, "Learning curves"), "set")
    assert "Dense frozen features units 8" in words(section(page, "Model"))


@pytest.mark.parametrize(
    "entries",
    [
        {"layer_table": [{"name": "a"}]},
        {"evaluation_clients": {"each": {"clients": "3"}}},
        {"model_name": 3},
    ],
)
def test_damaged_entries_are_named(tmp_path, entries):
    folder = make_run(tmp_path / "run", config=entries)
    with pytest.raises(ValueError, match=f"config.json is damaged .{next(iter(entries))} is"):
        write_report(folder)
