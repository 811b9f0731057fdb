"""Chooses the clients' learning rate of a row, as McMahan et al. 2017 do: on a grid.

    python -m experiments.papers.mcmahan2017.tune --path=FOLDER --cases=cnn_iid_e5_b10 --rounds=5

Each rate of the grid, factors of the cube root of 10 apart, trains for the same few rounds
from a seed that the study does not use. The best accuracy wins.
"""

import pathlib

from absl import flags

from experiments.papers.mcmahan2017 import study, table, task
from fedlab.cli.flags import UsageError, run_with_flags

SEED = 1000

_CASES = flags.DEFINE_list("cases", None, "Rows to tune, by name.", required=True)
_RATES = flags.DEFINE_list("rates", ["0.022", "0.046", "0.1", "0.22", "0.46"], "The grid.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds for each rate.", lower_bound=1)
_SCALE = flags.DEFINE_enum("scale", "small", ["smoke", "small", "paper"], "Whose settings.")
_PATH = flags.DEFINE_string("path", None, "Folder of MNIST's files.")


def check():
    """Raises UsageError for a case that does not exist."""
    if wrong := set(_CASES.value) - set(table.PUBLISHED) - set(study.UNPUBLISHED):
        raise UsageError(
            f"--cases={','.join(_CASES.value)}: {sorted(wrong)[0]} is no row; expected some of "
            f"{', '.join([*table.PUBLISHED, *study.UNPUBLISHED])}"
        )


def main():
    settings = {**study.SCALES[_SCALE.value], "targets": dict.fromkeys(table.TARGETS, 2.0)}
    for name in _CASES.value:
        for rate in map(float, _RATES.value):
            row = table.row(name, rate, _ROUNDS.value, max(1, _ROUNDS.value // 5))
            path = pathlib.Path(_PATH.value) if _PATH.value else None
            run, _ = task.train(table.method(name), settings, row, SEED, path=path, num_workers=1)
            found = [each["test_accuracy"] for each in run.history if "test_accuracy" in each]
            print(f"{name}  {rate:<6} best {max(found[1:]):.4f}, last {found[-1]:.4f}", flush=True)


if __name__ == "__main__":
    run_with_flags(main, check=check)
