"""Records what the experiments give on the tff stack, for comparison on either stack.

    .venv-tff/bin/python -m tests.agreement.record            writes the records of this folder
    .venv/bin/python -m tests.agreement.record FOLDER         writes those that the stack can write

    local.json   experiment -> the losses after each round, with the local engine
    tff.json     experiment -> the trained weights, with TFF's own algorithms; only on the tff
                 stack

Write them anew only if an experiment has changed.
"""

import json
import pathlib
import sys
from unittest import mock

from fedlab.learner import stack
from tests.agreement.experiments import LOCAL, TFF

FOLDER = pathlib.Path(__file__).parent


def read(name, folder=FOLDER):
    return json.loads((pathlib.Path(folder) / f"{name}.json").read_text())


def curves(run):
    """The losses of a run by round; training has none before the first."""
    names = ("train_loss", "test_loss")
    return {name: [row[name] for row in run.history if name in row] for name in names}


def weights(run):
    """The trained weights of a run as lists of numbers, one for each weight."""
    return _lists(run.model)


def initial_weights(experiment):
    """The weights that an experiment starts from, in the same form."""
    return _lists(experiment.model())


def _lists(model):
    return [weight.ravel().tolist() for weight in model.get_weights()]


def tff_weights(experiment):
    """The weights that TFF's own algorithm trains."""
    from fedlab.engines.tff import algorithms

    # The engine refuses FedProx, because TFF has the wrong sign of its proximal term.
    allowed = {"fed_prox": algorithms.fed_prox_of_tff}
    with mock.patch.dict(algorithms._ALGORITHMS, allowed):
        return weights(experiment.run(engine="tff", evaluate_on=None))


def write(file, results):
    """Writes results as JSON, rounded to 1e-7. The strictest tolerance is 2e-6."""

    def text(value):
        if isinstance(value, dict):
            items = (f"{json.dumps(name)}: {text(each)}" for name, each in value.items())
            return "{" + ",\n".join(items) + "}"
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        return f"{value:.7f}".rstrip("0").rstrip(".")

    file.write_text(text(results) + "\n")


def main(folder=FOLDER):
    folder = pathlib.Path(folder)
    if folder == FOLDER and stack.name() != "tff":
        sys.exit("expected the tff stack, or a folder")
    local = {name: curves(experiment.run()) for name, experiment in LOCAL.items()}
    write(folder / "local.json", local)
    if stack.name() == "tff":
        write(folder / "tff.json", {name: tff_weights(each) for name, each in TFF.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
