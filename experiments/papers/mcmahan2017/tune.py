"""Chooses the clients' learning rate of a row, as McMahan et al. 2017 do: on a grid.

    python -m experiments.papers.mcmahan2017.tune --path=FOLDER --cases=cnn_iid_e5_b10

The rates of the grid are a factor of the cube root of 10 apart. Each trains for the same few
rounds, from a seed that the study does not use. The grid grows until the rate with the best
test accuracy is not at its end. rates.json keeps what was found.
"""

import json
import pathlib

from absl import flags

from experiments.papers.mcmahan2017 import study, table, task
from fedlab.cli.flags import UsageError, run_with_flags

SEED = 1000
ROUNDS = {"fedsgd": 100, "e1_b10": 15, "e5_b10": 4}
CNN_ROUNDS = {"fedsgd": 40, "e1_b10": 8, "e5_b10": 3}
LSTM_ROUNDS = {"e1_b10": 12, "e5_b10": 3}
# Powers of the cube root of 10.
FEDSGD_START = (-2, -1, 0)
LSTM_START = (-1, 0, 1)
START = (-4, -3, -2)

_CASES = flags.DEFINE_list("cases", None, "Rows to tune, by name.", required=True)
_PATH = flags.DEFINE_string("path", None, "Folder of MNIST's files.")


def check():
    """Raises UsageError for a case that cannot be tuned."""
    known = [name for name in table.ROWS if _kind(name) in _rounds(name)]
    for name in _CASES.value:
        if name not in known:
            raise UsageError(f"--cases={name}: expected some of {', '.join(known)}")


def tune(name, path):
    """Returns the accuracy by rate."""
    what, count = table.method(name), _rounds(name)[_kind(name)]
    never = dict.fromkeys(table.TARGETS, 2.0)  # so that no run stops early
    settings = {**study.SCALES["small"], "targets": never}
    found: dict[int, float] = {}
    usual = LSTM_START if what.model == "shakespeare" else START
    wanted = FEDSGD_START if what.fedsgd else usual
    while wanted:
        for power in wanted:
            row = table.row(name, table.rate(power), count, max(1, count // 4))
            run, _ = task.train(what, settings, row, SEED, path=path)
            values = [each["test_accuracy"] for each in run.history[1:] if "test_accuracy" in each]
            found[power] = max(value for value in values if value is not None)
            print(f"{name}  rate {table.rate(power):.3g}: {found[power]:.4f}", flush=True)
        best = max(found, key=found.get)
        wanted = [power for power in (best - 1, best + 1) if power not in found]
    return {
        "rounds": count,
        "accuracy": {f"{table.rate(power):.3g}": round(found[power], 4) for power in sorted(found)},
    }


def main():
    path = pathlib.Path(_PATH.value) if _PATH.value else None
    for name in _CASES.value:
        made = {**table.tuned(), name: tune(name, path)}
        lines = [f"{json.dumps(key)}: {json.dumps(made[key])}" for key in table.ROWS if key in made]
        table.RATES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _kind(name):
    return name.split("_", 2)[2]


def _rounds(name):
    rounds = {"2nn": ROUNDS, "cnn": CNN_ROUNDS, "shakespeare": LSTM_ROUNDS}
    return rounds[table.method(name).model]


if __name__ == "__main__":
    run_with_flags(main, check=check)
