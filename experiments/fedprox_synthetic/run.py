"""FedProx against FedAvg on the synthetic data of the FedProx paper, with stragglers.

    python -m experiments.fedprox_synthetic.run
    python -m experiments.fedprox_synthetic.run --flagfile=experiments/fedprox_synthetic/paper.flags

Every method asks the same 10 of 30 clients in each round, and the same of them are slow.
A slow client has done 1 to 19 of its 20 epochs by the deadline. FedAvg drops it, while
FedProx uses what it has done. FedProx with mu = 0 is FedAvg that does so.
"""

import csv
import itertools
import pathlib

from absl import flags

from experiments import common
from fedlab.cli.flags import UsageError, check_folder, run_with_flags

_SETS = flags.DEFINE_list(
    "sets",
    ["iid", "0,0", "0.5,0.5", "1,1"],
    "Data sets: iid, or alpha,beta in quotes for synthetic(alpha, beta).",
)
_STRAGGLERS = flags.DEFINE_list("stragglers", ["0", "50", "90"], "Percentages of slow clients.")
_MU = flags.DEFINE_float("mu", 1.0, "Strength of FedProx's proximal term.", lower_bound=0.0)
_ROUNDS = flags.DEFINE_integer("rounds", 40, "Rounds; the paper has 200.", lower_bound=1)
_CLIENTS_PER_ROUND = flags.DEFINE_integer(
    "clients_per_round", 10, "Clients asked in a round.", lower_bound=1, upper_bound=30
)
_EPOCHS = flags.DEFINE_integer(
    "local_epochs", 20, "Epochs of a client that is not slow.", lower_bound=2
)
_EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 2, "Rounds between evaluations.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)
_OUT = flags.DEFINE_string(
    "out",
    "runs/fedprox_synthetic",
    "Folder of the runs, the table and the plot; the same command on it continues.",
)

METHODS = {
    "FedAvg": "drops slow clients",
    "FedProx, mu=0": "keeps them",
    "FedProx, mu>0": "keeps them",
}
FOLDERS = {"FedAvg": "fed_avg", "FedProx, mu=0": "fed_prox_0", "FedProx, mu>0": "fed_prox_mu"}
COLORS = {"FedAvg": "#2a78d6", "FedProx, mu=0": "#eda100", "FedProx, mu>0": "#1baf7a"}


def slow_epochs(client_id, round_num, *, client_ids, share, clients_per_round, local_epochs, seed):
    """Returns the epochs that a slow client does by the deadline, or None for another client.

    The same number of clients is slow in each cohort.
    """
    from fedlab.clients import sampling, seeding

    cohort = sampling.uniform(clients_per_round)(client_ids, round_num, seed)
    num_slow = clients_per_round - round(clients_per_round * (1 - share))
    if client_id not in cohort[:num_slow]:
        return None
    return int(seeding.generator(seed, "slow", round_num, client_id).integers(1, local_epochs))


def condition(drop, **options):
    """Returns a condition for `fedlab.simulate` that decides which clients are slow."""
    from fedlab.clients import Participation

    def condition(client_id, round_num, seed):
        epochs = slow_epochs(client_id, round_num, seed=seed, **options)
        if epochs is None:
            return Participation()
        if drop:
            return Participation(drop_reason="deadline")
        return Participation(share=epochs / options["local_epochs"])

    return condition


def curve(name, percent, method, out):
    """Runs one method on one data set; returns the evaluated rows of its history."""
    import fedlab as fl

    alpha, beta = (None, None) if name == "iid" else map(float, name.split(","))
    train, test = fl.datasets.fedprox_synthetic.load(alpha=alpha, beta=beta, seed=_SEED.value)
    mu = _MU.value if method == "FedProx, mu>0" else 0.0
    run = fl.simulate(
        fl.models.logistic_regression(learning_rate=0.01),
        train,
        fl.algorithms.fed_prox(mu),
        rounds=_ROUNDS.value,
        clients_per_round=_CLIENTS_PER_ROUND.value,
        conditions=condition(
            drop=method == "FedAvg",
            client_ids=train.client_ids,
            share=percent / 100,
            clients_per_round=_CLIENTS_PER_ROUND.value,
            local_epochs=_EPOCHS.value,
        ),
        batch_size=10,
        local_epochs=_EPOCHS.value,
        seed=_SEED.value,
        evaluate_on={"test": test, "all_train": train},
        evaluate_every=_EVALUATE_EVERY.value,
        evaluation_batch_size=1000,
        progress=False,
        run_dir=out / "_".join([name.replace(",", "_"), f"{percent}", FOLDERS[method]]),
    )
    return [row for row in run.history if "test_accuracy" in row]


def plot(curves, file, column, label):
    """Draws one row per percentage of stragglers and one column per data set."""
    sets, percents = (
        list(dict.fromkeys(values))
        for values in zip(*((name, percent) for name, percent, _ in curves))
    )
    size = 3.1 * len(sets), 2.3 * len(percents)
    grid = dict(rows=len(percents), columns=len(sets), sharex=True, sharey="col")
    with common.picture(file, *size, **grid, dpi=110) as (figure, axes):
        for (name, percent, method), rows in curves.items():
            axes[percents.index(percent)][sets.index(name)].plot(
                [row["round"] for row in rows],
                [row[column] for row in rows],
                color=COLORS[method],
                label=method.replace("mu>0", f"mu={_MU.value:g}"),
                linewidth=1.5,
            )
        for axis, name in zip(axes[0], sets):
            axis.set_title("IID" if name == "iid" else f"synthetic({name})", fontsize=10)
        for row, percent in zip(axes, percents):
            row[0].set_ylabel(f"{label}\n{percent} % stragglers")
        for axis in axes.flat:
            axis.grid(alpha=0.25)
            axis.tick_params(labelsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("round")
        figure.legend(
            *axes[0][0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=3,
            frameon=False,
        )


def table(curves):
    """Returns one row per data set and percentage of stragglers with the final figures.

    For each method these are the loss on all training data and the accuracy on all test
    data.
    """
    rows = []
    for name, percent in dict.fromkeys((name, percent) for name, percent, _ in curves):
        row = {"set": name, "stragglers": percent}
        for method in METHODS:
            last = curves[name, percent, method][-1]
            row[f"{method} accuracy"], row[f"{method} loss"] = (
                round(last["test_accuracy"], 4),
                round(last["all_train_loss"], 4),
            )
        rows.append(row)
    return rows


def checked_set(name):
    try:
        if (
            name == "iid"
            or name.count(",") == 1
            and all(0 <= float(value) < float("inf") for value in name.split(","))
        ):
            return name
    except ValueError:
        pass
    raise UsageError(
        f"--sets={name!r}: expected iid, or alpha,beta of at least 0, such as --sets='iid,\"1,1\"'"
    )


def checked_percent(text):
    if not (text.isdecimal() and int(text) < 100):
        raise UsageError(f"--stragglers={text!r}: expected integers between 0 and 99")
    return int(text)


def asked():
    """Returns (data sets, percentages of slow clients, folder) that the flags ask for.

    Raises:
      UsageError: a flag has a value that is not allowed.
    """
    sets = [checked_set(name) for name in _SETS.value]
    percents = [checked_percent(text) for text in _STRAGGLERS.value]
    for flag, values in (("sets", sets), ("stragglers", percents)):
        if not values:
            raise UsageError(f"--{flag}=: expected at least one value")
    check_folder("out", _OUT.value)
    return sets, percents, pathlib.Path(_OUT.value)


def main():
    sets, percents, out = asked()
    curves = {}
    for name, percent, method in itertools.product(sets, percents, METHODS):
        curves[name, percent, method] = curve(name, percent, method, out)
        last = curves[name, percent, method][-1]
        print(
            f"{name:>8}  {percent:>3} %  {method:<14} "
            f"accuracy {last['test_accuracy']:.4f}  loss {last['all_train_loss']:.4f}",
            flush=True,
        )
    rows = table(curves)
    with open(out / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    plot(curves, out / "loss.png", "all_train_loss", "training loss")
    plot(curves, out / "accuracy.png", "test_accuracy", "test accuracy")
    print(f"written: {out}/table.csv, loss.png, accuracy.png")


if __name__ == "__main__":
    run_with_flags(main, check=asked)
