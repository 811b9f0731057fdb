"""The studies of papers: their records, measures, tables and command."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

from experiments.papers import measures, pages, results, study

ROOT = pathlib.Path(__file__).resolve().parents[2]


def record(case="a", seed=0, rows=(), **settings):
    return {
        "case": case,
        "seed": seed,
        "settings": settings,
        "versions": {},
        "cores": 2,
        "seconds": 90.0,
        "columns": ["round", "test_accuracy"],
        "rows": [list(row) for row in rows],
        "figures": {},
    }


def test_no_number_of_the_pages_is_typed_by_hand():
    made = pages.all_pages()
    assert len(made) == 1 + len(study.names()) > 1
    for file, text in made.items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: run experiments.papers --write"


@pytest.mark.parametrize("name", study.names())
def test_a_study_is_complete(name):
    found = study.load(name)
    assert (found.name, set(found.scales)) == (name, set(study.SCALES))
    for scale in study.SCALES:
        settings = found.scales[scale]
        cases = found.cases(settings)
        assert json.loads(json.dumps(settings)) == settings, "settings are kept as JSON"
        assert len(set(case[:2] for case in cases)) == len(cases) > 0
        assert {case.seed for case in cases} == set(settings["seeds"])
    readme = (study.FOLDER / name / "README.md").read_text()
    assert found.url in readme and f"experiments.papers {name}" in readme
    assert f"experiments/papers/{name}/README.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("name", study.names())
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_kept_records_are_of_the_study(name, scale):
    found = study.load(name)
    kept = results.read(results.kept(found, scale))
    settings = {key: value for key, value in found.scales[scale].items() if key != "seeds"}
    known = {case.name for case in found.cases(found.scales[scale])}
    for each in kept:
        assert each["settings"] == settings
        assert each["case"] in known
    assert len({(each["case"], each["seed"]) for each in kept}) == len(kept)


def test_rounds_to_a_target_use_the_best_so_far_and_interpolate():
    rows = [(0, 0.1), (10, 0.5), (20, 0.3), (30, 0.9), (40, 0.2)]
    given = record(rows=rows)
    assert measures.rounds_to(given, "test_accuracy", 0.1) == 0
    assert measures.rounds_to(given, "test_accuracy", 0.3) == pytest.approx(5)
    assert measures.rounds_to(given, "test_accuracy", 0.6) == pytest.approx(
        22.5
    )  # from 0.5, not 0.3
    assert measures.rounds_to(given, "test_accuracy", 0.91) == math.inf


def test_means_count_the_evaluations_of_the_last_rounds():
    given = record(rows=[(0, 0.0), (10, 0.2), (20, 0.4), (30, 0.9)])
    assert measures.mean_of_last(given, "test_accuracy", 20) == pytest.approx(0.65)
    assert measures.last(given, "test_accuracy") == 0.9


def test_a_record_has_the_evaluated_rounds(tmp_path):
    history = [
        {"round": 0, "test_accuracy": 0.123456789, "test_loss": None, "seconds": None},
        {"round": 1, "train_loss": 2.0, "seconds": 3.0, "bytes_up": 8, "clients_asked": 2},
        {"round": 2, "train_loss": 1.0, "test_accuracy": 0.5, "seconds": 4.0},
    ]
    outcome = study.Outcome(history, {"centralized": 1 / 3})
    made = results.record(study.Case("a", 1), {"rounds": 2}, outcome, seconds=1.0)
    assert made["columns"] == ["round", "test_accuracy", "train_loss"]
    assert made["rows"] == [[0, 0.123457, None], [2, 0.5, 1.0]]
    assert (made["figures"], made["seconds"]) == ({"centralized": 0.333333}, 7.0)
    results.write(tmp_path / "small.json", [made])
    assert results.read(tmp_path / "small.json") == [made]


def test_records_replace_those_of_the_same_case_and_not_those_of_other_settings(tmp_path):
    file = tmp_path / "paper.json"
    results.merge(file, [record("b", rounds=9), record("a", 1, rounds=9)])
    results.merge(file, [record("a", 1, [(0, 0.5)], rounds=9), record("a", 0, rounds=9)])
    kept = results.read(file)
    assert [(each["case"], each["seed"]) for each in kept] == [("a", 0), ("a", 1), ("b", 0)]
    assert kept[1]["rows"] == [[0, 0.5]]
    with pytest.raises(ValueError, match="other settings .rounds."):
        results.merge(file, [record("a", 2, rounds=8)])
    assert results.read(file) == kept


def example(rows, verdict=study.Verdict(True, "52.0 against 50.0.")):
    return study.load(study.names()[0])._replace(
        name="a2020",
        paper="A et al. 2020",
        title="A",
        claim="One is better than two. " * 6,
        data="Some.",
        rows=lambda records: rows,
        verdict=lambda records: verdict,
    )


RECORDS = results.by_case([record("b"), record("a")])


def test_the_table_shows_mean_and_spread():
    def rows(records):
        assert list(records) == ["a", "b"]
        return [
            study.Row("one", "accuracy, %", 57.0, [50.0, 54.0]),
            study.Row("two", "rounds", "> 9", [math.inf, 3.0], 0, "slow"),
            study.Row("three", "rounds", 1200.0, [3906.4], 0),
            study.Row("four", "rounds", None, []),
        ]

    lines = pages.table(example([])._replace(rows=rows), RECORDS)
    assert lines == [
        "|  | measure | published | here | seeds | note |",
        "| --- | --- | ---: | ---: | ---: | --- |",
        "| one | accuracy, % | 57.0 | 52.0 ± 2.8 | 2 |  |",
        "| two | rounds | > 9 | not reached by 1 of 2 | 2 | slow |",
        "| three | rounds | 1,200 | 3,906 | 1 |  |",
        "| four | rounds |  | not run |  |  |",
    ]


@pytest.mark.parametrize(
    "values, told",
    [
        ([50.0, 54.0], "The numbers are: accuracy, %. Mean and standard deviation of 2 seeds."),
        ([52.0], "The numbers are: accuracy, %. Each number is from one seed."),
        ([], "The numbers are: accuracy, %."),
    ],
)
def test_what_holds_for_all_rows_is_said_once(values, told):
    rows = [study.Row(name, "accuracy, %", None, values) for name in ("one", "two")]
    table = pages.table(example(rows), RECORDS)
    title = "|  | here |" if values else "|  | here | seeds |"
    assert (table[0], table[-1]) == (title, told)


def test_columns_have_equal_widths_in_the_terminal():
    lines = ["|  | here |", "| --- | ---: |", "| FedAvg | 9.0 |", "", "Each number."]
    assert pages.aligned(lines) == [
        "|        | here |",
        "| ------ | ---: |",
        "| FedAvg |  9.0 |",
        "",
        "Each number.",
    ]


@pytest.fixture
def listed(monkeypatch):
    """One study that has run, and one that has not."""
    rows = [
        study.Row("none", "rounds", None, [9.0]),
        study.Row("one", "accuracy, %", 57.0, [50.0, 54.0]),
    ]
    run, new = example(rows), example(rows)._replace(name="b2020")
    monkeypatch.setattr(study, "load_all", lambda: [run, new])
    monkeypatch.setattr(
        pages, "best", lambda found: ("small", RECORDS) if found is run else ("", {})
    )


def test_the_list_is_plain_text(listed):
    lines = pages.listing(width=60)
    assert lines[:3] == [
        "a2020: A et al. 2020, A",
        "    claim: One is better than two. One is better than two.",
        "      One is better than two. One is better than two. One is",
    ]
    assert lines[4:8] == [
        "    recorded: scale small, 3 min 0 s on 2 cores",
        "    does it hold? Yes. 52.0 against 50.0.",
        "",
        "b2020: A et al. 2020, A",
    ]
    assert "    recorded: nothing yet" in lines
    assert all(len(line) <= 60 and "**" not in line for line in lines)


def test_the_overview_has_claim_result_numbers_duration_and_command(listed):
    lines = pages.overview()
    run, new = lines[8:10]
    link = "[A et al. 2020](../experiments/papers/a2020/README.md)"
    assert run.startswith(f"| {link}<br>`a2020 --scale=small`<br>3 min 0 s on 2 cores | One is")
    assert run.endswith(" **Yes.** | one, accuracy, % | 57.0 | 52.0 ± 2.8 |")
    assert "<br>`b2020 --scale=small`<br>not run yet | One" in new
    assert new.endswith(" |  |  |  |")
    assert lines[10:] == ["", "What the runs found:", "", f"- **{link}.** 52.0 against 50.0."]
    assert "python -m experiments.papers a2020 --scale=small" in lines


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no study: expected one of"),
        (["reddi"], "study 'reddi': expected one of"),
        (["reddi2021", "--cases=fed_avg,x"], "--cases=fed_avg,x: expected some of fed_adagrad"),
        (["reddi2021", "--seeds=a"], "--seeds=a: expected integers"),
        (["reddi2021", "--path=/nowhere"], "--path=/nowhere: expected a folder"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.papers", *arguments, f"--out={tmp_path / 'out'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and not done.stdout
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_overview_has_the_largest_scale_that_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "kept", lambda found, scale: tmp_path / f"{scale}.json")

    def best(**decided):
        for scale in ("small", "paper"):
            (tmp_path / f"{scale}.json").unlink(missing_ok=True)
        for scale in decided:
            results.write(tmp_path / f"{scale}.json", [record(case=scale)])

        def verdict(records):
            return study.Verdict(*[decided[each] for each in records], "")

        return pages.best(study.load(study.names()[0])._replace(verdict=verdict))[0]

    assert best(small=True, paper=False) == "paper"
    assert best(small=False, paper=None) == "small"
    assert best(small=None, paper=None) == "paper"
    assert best(small=None) == "small"
    assert best() == ""
