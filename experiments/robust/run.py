"""Compares the mean with robust aggregators while some clients flip the sign of their updates.

    python -m experiments.robust.run

Runs each aggregator on clients that are alike and on clients that are not, writes the
learning curves as robust.csv and robust.png, and prints the accuracies.
"""

import csv
import pathlib
import time

from absl import flags, logging

from experiments import common
from fedlab.cli.flags import check_folder, run_with_flags

_HERE = pathlib.Path(__file__).resolve().parent
_OUT = flags.DEFINE_string("out", str(_HERE), "Folder for robust.csv and robust.png.")
_ROUNDS = flags.DEFINE_integer("rounds", 60, "Rounds.", lower_bound=1)
_NUM_CLIENTS = flags.DEFINE_integer("num_clients", 100, "Clients.", lower_bound=10)
_CLIENTS_PER_ROUND = flags.DEFINE_integer(
    "clients_per_round", 30, "Random clients per round.", lower_bound=5
)
_ATTACKERS = flags.DEFINE_float(
    "attackers",
    0.3,
    "Share of the clients that attack in every round.",
    lower_bound=0.0,
    upper_bound=0.49,
)
_SCALE = flags.DEFINE_float(
    "scale", 3.0, "Attackers send -scale times their update.", lower_bound=0.01
)
_TOLERATED = flags.DEFINE_float(
    "tolerated",
    0.4,
    "Share of attackers that trimmed mean and Krum withstand.",
    lower_bound=0.0,
    upper_bound=0.49,
)
_SKEW = flags.DEFINE_float(
    "skew",
    0.3,
    "Dirichlet parameter of a client's classes where clients are not alike.",
    lower_bound=0.001,
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 0.05, "Rate of the clients' SGD.", lower_bound=0.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)

_NUM_CLASSES, _NUM_FEATURES, _EXAMPLES = 10, 20, 50
_NAMES = ("no attack", "mean", "median", "trimmed mean", "Krum", "multi-Krum")


def make_clients(skew):
    """Returns (clients, test columns) with points of Gaussian clouds around ten random centres.

    The columns are x: [n, 20] float32 and y: [n] int64.

    Args:
      skew: Dirichlet parameter of each client's shares of the classes; infinite for
        clients that are alike.
    """
    import numpy as np

    import fedlab as fl
    from fedlab.clients import seeding

    rng = seeding.generator(_SEED.value, "clouds", skew)
    centres = seeding.generator(_SEED.value, "centres").normal(size=[_NUM_CLASSES, _NUM_FEATURES])

    def draw(size, shares):
        y = rng.choice(_NUM_CLASSES, size, p=shares)
        return {
            "x": (centres[y] + 1.5 * rng.normal(size=[size, _NUM_FEATURES])).astype(np.float32),
            "y": y,
        }

    alike = np.full(_NUM_CLASSES, 1 / _NUM_CLASSES)
    shares = [
        alike if np.isinf(skew) else rng.dirichlet(np.full(_NUM_CLASSES, skew))
        for _ in range(_NUM_CLIENTS.value)
    ]
    clients = {f"client_{k:03}": draw(_EXAMPLES, p) for k, p in enumerate(shares)}
    return fl.ClientData.from_dict(clients), draw(5000, alike)


def make_model():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(_SEED.value)
    model = tf.keras.Sequential(
        [
            tf.keras.Input([_NUM_FEATURES]),
            tf.keras.layers.Dense(32, activation="relu"),
            tf.keras.layers.Dense(_NUM_CLASSES),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.SGD(_LEARNING_RATE.value), loss, metrics=["accuracy"])
    return model


def accuracies(name, clients, test):
    """Returns the test accuracy after each round of a run, from round 0."""
    import fedlab as fl
    from fedlab.clients import seeding

    algorithm = fl.algorithms.fed_avg(client_weighting="uniform")
    if name != "no attack":
        order = seeding.generator(_SEED.value, "attackers").permutation(len(clients))
        attackers = [clients.client_ids[i] for i in order[: round(_ATTACKERS.value * len(clients))]]
        algorithm = fl.algorithms.attacks.sign_flipping(algorithm, attackers, _SCALE.value)
    aggregator = {
        "no attack": fl.aggregators.mean,
        "mean": fl.aggregators.mean,
        "median": fl.aggregators.median,
        "trimmed mean": lambda: fl.aggregators.trimmed_mean(_TOLERATED.value),
        "Krum": lambda: fl.aggregators.krum(_TOLERATED.value),
        "multi-Krum": lambda: fl.aggregators.krum(
            _TOLERATED.value, num_selected=_CLIENTS_PER_ROUND.value // 2
        ),
    }[name]()
    run = fl.simulate(
        make_model(),
        clients,
        algorithm,
        rounds=_ROUNDS.value,
        clients_per_round=_CLIENTS_PER_ROUND.value,
        aggregator=aggregator,
        batch_size=10,
        local_epochs=2,
        seed=_SEED.value,
        evaluate_on={"test": fl.ClientData.from_dict({"test": test})},
        evaluation_batch_size=1000,
        progress=False,
    )
    return [row["test_accuracy"] for row in run.history]


def draw(curves, file):
    """Draws one panel for each kind of clients, with one line for each aggregator."""
    styles = {
        "no attack": dict(color=common.GREY, linestyle="--", label="mean, no attack"),
        "mean": dict(color=common.VERMILION),
        "median": dict(color=common.BLUE),
        # Dots, because this line coincides with the median's.
        "trimmed mean": dict(color=common.GREEN, linestyle=":", linewidth=3),
        "Krum": dict(color=common.ORANGE),
        "multi-Krum": dict(color=common.PINK),
    }
    with common.picture(file, 9, 3.6, columns=len(curves), sharey=True) as (_, [axes]):
        for axis, (title, by_name) in zip(axes, curves.items()):
            for name, values in by_name.items():
                axis.plot(values, **{"label": name, "linewidth": 1.8, **styles[name]})
            axis.set(title=title, xlabel="round", ylim=(0, 1))
            axis.grid(axis="y", alpha=0.3)
        axes[0].set_ylabel("accuracy")
        axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def main():
    started = time.time()
    kinds = {"clients are alike": float("inf"), "clients differ in their classes": _SKEW.value}
    curves = {}
    for title, skew in kinds.items():
        clients, test = make_clients(skew)
        curves[title] = {}
        for name in _NAMES:
            curves[title][name] = accuracies(name, clients, test)
            logging.info("%s, %s: %.4f", title, name, curves[title][name][-1])
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "robust.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["clients", "aggregator", "round", "test_accuracy"])
        for title, by_name in curves.items():
            table.writerows(
                [title, name, i, f"{value:.4f}"]
                for name, values in by_name.items()
                for i, value in enumerate(values)
            )
    draw(curves, out / "robust.png")
    print(
        f"{'accuracy after ' + str(_ROUNDS.value) + ' rounds':32}"
        + "".join(f"{name:>14}" for name in _NAMES)
    )
    for title, by_name in curves.items():
        print(f"{title:32}" + "".join(f"{by_name[name][-1]:14.4f}" for name in _NAMES))
    print(f"\nThe picture is {out / 'robust.png'}. {time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check=lambda: check_folder("out", _OUT.value))
