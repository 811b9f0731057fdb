"""Trains an image classifier by federated averaging, on clients that are alike or are not.

    python -m experiments.images.run --flagfile=experiments/images/fashion_dirichlet.flags
    python -m experiments.images.run --source=synthetic --rounds=3

The run folder also gets clients.png, which labels each client has, and curves.png.
"""

import math
import os
import pathlib
import time

from absl import flags, logging

from experiments import common, training
from experiments.images import data
from fedlab.cli.flags import UsageError, check_engine, run_with_flags

flags.adopt_module_key_flags(training)
flags.adopt_module_key_flags(data)

# log10 of the clients' rate, the server's rate and epsilon (tau): Reddi et al. 2021, for
# EMNIST. The others use those of FedAvg.
RATES = {
    "fed_avg": (-1, 0, None),
    "fed_avgm": (-1.5, -0.5, None),
    "fed_adagrad": (-1.5, -1, -2),
    "fed_adam": (-1.5, -2.5, -4),
    "fed_yogi": (-1.5, -2.5, -4),
    "fed_prox": (-1, 0, None),
    "scaffold": (-1, 0, None),
    "fed_sgd": (-1, -1, None),
}
MODELS = ["fedavg_cnn", "emnist_cnn", "lenet", "two_nn"]

for _flag, _default in (
    (training.CLIENT_LEARNING_RATE, 0.1),
    (training.BATCH_SIZE, 10),
):
    flags.set_default(_flag, _default)
_PARTITION = flags.DEFINE_string(
    "partition",
    "uniform",
    "Which client has which image: uniform, dirichlet, shards, natural (EMNIST's writers), or "
    "another partitioner with its settings, such as 'labels_per_client(num_clients=10, ...)'.",
)
_NUM_CLIENTS = flags.DEFINE_integer(
    "num_clients",
    None,
    "Number of clients. Default: 100; with natural, all writers.",
    lower_bound=1,
)
_ALPHA = flags.DEFINE_float(
    "alpha", 0.1, "With dirichlet: the smaller, the less alike clients are.", lower_bound=1e-6
)
_SHARDS = flags.DEFINE_integer(
    "shards_per_client", 2, "With shards: pieces of the sorted images.", lower_bound=1
)
_MODEL = flags.DEFINE_enum("model", "fedavg_cnn", MODELS, "A model with random weights.")
_PRETRAINED = flags.DEFINE_string(
    "pretrained",
    None,
    "Replaces --model: a .keras file, whose last Dense layer gives way to a new head; with "
    "--application, a file of its weights.",
)
_APPLICATION = flags.DEFINE_string(
    "application", None, "A model of keras.applications, such as MobileNetV2, for --pretrained."
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", 96, "Height and width of what an --application sees.", lower_bound=32
)
_FREEZE_BASE = flags.DEFINE_bool(
    "freeze_base", True, "With --pretrained: train and send only the head."
)
_ALGORITHM = flags.DEFINE_enum(
    "algorithm",
    "fed_avg",
    [*RATES],
    "The method. Rates and epsilon that are not given are those of Reddi et al. 2021 for EMNIST.",
)
_EPSILON = flags.DEFINE_float(
    "server_epsilon", None, "Of fed_adagrad, fed_adam and fed_yogi.", lower_bound=0.0
)
_MU = flags.DEFINE_float("mu", 0.01, "Of fed_prox.", lower_bound=0.0)
_TARGET = flags.DEFINE_float(
    "target",
    None,
    "Also print the rounds to this test accuracy.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_EVALUATION = flags.DEFINE_integer(
    "evaluation_images", 2000, "Test images drawn for the curve.", lower_bound=1
)


def check():
    """Raises an error if flags contradict each other, or the engine cannot run."""
    data.check()
    _check_partition()
    if _PRETRAINED.value is None:
        for flag in (_APPLICATION, _FREEZE_BASE):
            if flag.present:
                raise UsageError(f"--{flag.name}: expected only with --pretrained=FILE")
    elif _MODEL.present:
        raise UsageError(
            f"--model={_MODEL.value}: expected no --model with --pretrained, which replaces it"
        )
    elif not os.path.isfile(_PRETRAINED.value):
        raise UsageError(
            f"--pretrained={_PRETRAINED.value}: expected an existing file; `python -m "
            "experiments.images.pretrain` writes one"
        )
    if _EPSILON.value is not None and RATES[_ALGORITHM.value][2] is None:
        raise UsageError(
            f"--server_epsilon={_EPSILON.value}: expected only with --algorithm=fed_adagrad, "
            "fed_adam or fed_yogi"
        )
    if training.SERVER_MOMENTUM.value and _ALGORITHM.value not in ("fed_avg", "fed_prox"):
        raise UsageError(
            f"--server_momentum={training.SERVER_MOMENTUM.value}: expected only with "
            "--algorithm=fed_avg or fed_prox"
        )
    check_engine(training.ENGINE.value)
    client_rate, server_rate, _ = RATES[_ALGORITHM.value]
    for flag, power in (
        (training.CLIENT_LEARNING_RATE, client_rate),
        (training.SERVER_LEARNING_RATE, server_rate),
    ):
        if not flag.present:
            flags.FLAGS[flag.name].value = 10.0**power


def _check_partition():
    name, natural = _PARTITION.value, _PARTITION.value == "natural"
    if natural and data.DATA.value != "emnist":
        raise UsageError(
            f"--partition=natural: expected --data=emnist, whose writers are clients; "
            f"{data.DATA.value} has none"
        )
    if natural and data.NUM_IMAGES.value is not None:
        raise UsageError(
            f"--num_images={data.NUM_IMAGES.value}: expected another --partition than natural; "
            "use --num_clients for fewer writers"
        )
    if "(" in name and _NUM_CLIENTS.present:
        raise UsageError(
            f"--num_clients={_NUM_CLIENTS.value}: expected num_clients among the settings of "
            f"--partition={name}"
        )
    if not natural:
        partitioner()


def partitioner():
    """Returns the partitioner that the flags describe, or None for EMNIST's writers.

    Raises:
      UsageError: --partition has another form, or a setting is out of range.
    """
    from fedlab.clients import partitioners

    name = _PARTITION.value
    if name == "natural":
        return None
    settings = {"num_clients": _NUM_CLIENTS.value or 100}
    more = {
        "uniform": {},
        "dirichlet": {"alpha": _ALPHA.value},
        "shards": {"shards_per_client": _SHARDS.value},
    }
    try:
        if "(" in name:
            return partitioners.parse(name, training.SEED.value)
        if name in more:
            method = getattr(partitioners, name)
            return method(**settings, **more[name], seed=training.SEED.value)
    except ValueError as error:
        raise UsageError(f"--partition={name}: {error}") from None
    raise UsageError(
        f"--partition={name}: expected uniform, dirichlet, shards, natural, or a partitioner with "
        "settings, such as 'power_law(num_clients=20, exponent=1.5)'"
    )


def load_model(images):
    """Returns the compiled model that the flags describe."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(training.SEED.value)
    shape = images.test["x"].shape[1:]
    if _PRETRAINED.value is None:
        model = getattr(fl.models, _MODEL.value)(len(images.names), input_shape=shape)
    else:
        from experiments.images import pretrained

        model = pretrained.load(
            _PRETRAINED.value,
            len(images.names),
            image_shape=shape,
            application=_APPLICATION.value,
            image_size=_IMAGE_SIZE.value,
            freeze_base=_FREEZE_BASE.value,
        )
    model.optimizer = training.client_optimizer("SGD")
    return model


def load_algorithm():
    """Returns the algorithm that the flags describe."""
    import fedlab as fl

    name, rate = _ALGORITHM.value, training.SERVER_LEARNING_RATE.value
    if name == "fed_sgd":
        return fl.algorithms.fed_sgd(fl.optimizers.sgd(rate))
    options = {"server_learning_rate": rate}
    power = RATES[name][2]
    if power is not None:
        options["epsilon"] = 10.0**power if _EPSILON.value is None else _EPSILON.value
    if name in ("fed_avg", "fed_prox"):
        options["server_momentum"] = training.SERVER_MOMENTUM.value
    if name == "fed_prox":
        options["mu"] = _MU.value
    return getattr(fl.algorithms, name)(**options)


def rounds_to(target, rounds, accuracies):
    """Returns the number of rounds to an accuracy, as McMahan et al. count them.

    The curve is made monotone (the best so far) and interpolated linearly (section 3).

    Args:
      target: the accuracy.
      rounds, accuracies: the evaluated rounds, in order, and their accuracies.

    Returns:
      The number of rounds, or None if the target was not reached.

    Example:
      >>> rounds_to(0.5, [0, 2, 4], [0.25, 0.125, 0.75])
      3.0
    """
    best, before = accuracies[0], rounds[0]
    if best >= target:
        return float(before)
    for round_num, accuracy in zip(rounds[1:], accuracies[1:]):
        if accuracy >= target:
            return before + (round_num - before) * (target - best) / (accuracy - best)
        best, before = max(best, accuracy), round_num
    return None


def print_table(history):
    """Prints the evaluated rounds of the learning curve."""
    names = [("round", "round"), ("train_loss", "train loss"), ("test_loss", "test loss")]
    names += [("test_accuracy", "test acc."), ("seconds", "seconds")]
    common.print_table((row for row in history if "test_accuracy" in row), names, digits=4)


def draw_curves(history, file):
    """Draws accuracy on the left and loss on the right, by round."""
    with common.picture(file, 8, 3, columns=2) as (_, [axes]):
        for axis, metric in zip(axes, ("accuracy", "loss")):
            for part, color in (("train", common.LIGHT_GREY), ("test", common.BLUE)):
                rows = [row for row in history if row.get(f"{part}_{metric}") is not None]
                axis.plot(
                    [row["round"] for row in rows],
                    [row[f"{part}_{metric}"] for row in rows],
                    color=color,
                    label={"train": "cohort, while it trains", "test": "test images"}[part],
                )
            axis.set(xlabel="round", ylabel=metric)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
        axes[0].legend(frameon=False)


def traffic(history, model):
    """Says what a client receives and sends per round."""
    row = history[-1]
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return (
        f"{trained:,} of {model.count_params():,} parameters train. A client receives "
        f"{row['bytes_down'] // row['clients_asked']:,} bytes per round and sends "
        f"{row['bytes_up'] // max(1, row['clients_finished']):,}."
    )


def main():
    import fedlab as fl
    from fedlab import _files
    from fedlab.data import description_json

    started = time.time()
    if training.ENGINE.value == "local":
        fl.one_core_per_client()
    seed = training.SEED.value
    images = data.load(partitioner(), _NUM_CLIENTS.value, seed)
    found = fl.data.describe(images.train, max_clients=1000, names=images.names)
    model = load_model(images)
    logging.info(
        "%d clients with %d training images; earth mover's distance of their labels: mean %.3f",
        found.num_clients,
        int(found.num_examples.sum()),
        found.mean_distance,
    )
    run = fl.simulate(
        model,
        images.train,
        load_algorithm(),
        **training.simulation_options(),
        clients_per_round=training.CLIENTS_PER_ROUND.value,
        max_batches=training.MAX_BATCHES.value,
        evaluate_on={"test": data.draw(images.test, _EVALUATION.value, seed)},
        evaluation_batch_size=200,
    )
    print_table(run.history)
    before, after = (fl.evaluate(m, images.test, batch_size=200) for m in (model, run.model))
    print(
        f"\nAccuracy on {len(images.test['y']):,} test images: {before['accuracy']:.4f} before, "
        f"{after['accuracy']:.4f} after {run.history[-1]['round']} rounds."
    )
    if _TARGET.value is not None:
        rows = [row for row in run.history if "test_accuracy" in row]
        curve = ([row[name] for row in rows] for name in ("round", "test_accuracy"))
        rounds = rounds_to(_TARGET.value, *curve)
        text = "not reached" if rounds is None else f"after {rounds:.1f} rounds"
        print(f"An accuracy of {_TARGET.value:g}: {text}.")
    print(traffic(run.history, model))
    if run.path:
        folder = pathlib.Path(run.path)
        found.save(folder / "clients.png")
        _files.write(folder / "clients.json", description_json.dumps(found))
        draw_curves(run.history, folder / "curves.png")
        print(
            f"The model is in {os.path.join(run.path, 'model.keras')}, with clients.png, "
            "curves.png and report.html beside it."
        )
    print(f"{time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check)
