"""Trains a text classifier, a BERT encoder with a head, by federated averaging.

    python -m experiments.classification.run \
        --flagfile=experiments/classification/pretrained.flags --path=FOLDER
    python -m experiments.classification.run --pretrained=minilm \
        --data=reviews.csv --client=user_id --text=review --label=stars

Some clients, or some texts of all clients, are held out. They are classified before the
first round, after every few rounds, and after training.
"""

import csv
import io
import pathlib
import time

from absl import flags, logging

from experiments import common, encoder, training
from fedlab.cli.flags import UsageError, check_engine, run_with_flags

flags.adopt_module_key_flags(training)
flags.adopt_module_key_flags(encoder)
for _flag, _default in (
    (training.CLIENTS_PER_ROUND, 4),
    (training.CLIENT_LEARNING_RATE, 2e-4),
    (training.CLIENT_SCHEDULE, "cosine"),
    (training.BATCH_SIZE, 16),
    (training.MAX_BATCHES, 10),
    (training.EVALUATE_EVERY, 2),
):
    flags.set_default(_flag, _default)
_DATASET = flags.DEFINE_enum(
    "dataset",
    "squad_topics",
    ["squad_topics", "twenty_newsgroups", "sent140", "synthetic"],
    "Which texts, unless --data is given. squad_topics: which article is a question about?",
)
_PATH = flags.DEFINE_string(
    "path",
    None,
    "Folder of the data set's files: for squad_topics train-v1.1.json and dev-v1.1.json, also as "
    ".json.gz. Default: twenty_newsgroups and sent140 are downloaded.",
)
_NUM_TOPICS = flags.DEFINE_integer(
    "num_topics", 20, "Articles of squad_topics, the largest ones.", lower_bound=2
)
_DATA = flags.DEFINE_string(
    "data", None, "Your own texts: a file .csv, .tsv, .jsonl or .parquet. Needs --text and --label."
)
_CLIENT = flags.DEFINE_string("client", None, "Column of --data with the client ids.")
_TEXT = flags.DEFINE_string("text", None, "Column of --data with the texts.")
_LABEL = flags.DEFINE_string("label", None, "Column of --data with the labels.")
_PARTITION = flags.DEFINE_enum(
    "partition",
    None,
    ["natural", "dirichlet", "uniform"],
    "Which clients: those of the data (default where it has any), or --num_clients others with "
    "Dirichlet shares of the labels (default elsewhere, and of squad_topics) or with equal parts.",
)
_NUM_CLIENTS = flags.DEFINE_integer(
    "num_clients", 40, "Clients of a partition that is not natural, or synthetic.", lower_bound=2
)
_ALPHA = flags.DEFINE_float(
    "alpha", 0.5, "Skew of dirichlet: the smaller, the fewer labels per client.", lower_bound=1e-6
)
_HOLD_OUT = flags.DEFINE_float(
    "hold_out",
    0.2,
    "Share to hold out of data without a test set: of the clients if they are natural, of the "
    "texts otherwise (of squad_topics: of the paragraphs).",
    lower_bound=0.001,
    upper_bound=0.9,
)
_VOCABULARY = flags.DEFINE_string("vocabulary", None, "A vocab.txt. Default: BERT's uncased one.")
_MAX_LENGTH = flags.DEFINE_integer(
    "max_length", 32, "Tokens per text; the rest is left out.", lower_bound=3
)
_PRETRAINED = flags.DEFINE_string(
    "pretrained",
    None,
    "Weights to start from: minilm, the path of a BERT checkpoint, or a .keras file that this "
    "script has written. Default: random.",
)
_FREEZE = flags.DEFINE_bool(
    "freeze", False, "Train and send only the head: the encoder keeps its weights."
)
_ALGORITHM = flags.DEFINE_enum(
    "algorithm", "fed_avg", ["fed_avg", "fed_prox", "fed_adam"], "How the server learns."
)
_PROXIMAL = flags.DEFINE_float(
    "proximal", 0.01, "mu of fed_prox, which keeps clients near the server.", lower_bound=0.0
)
_EVALUATION = flags.DEFINE_integer(
    "evaluation_examples", 500, "Held-out texts drawn for the curve.", lower_bound=1
)
_COMPARISON = flags.DEFINE_integer(
    "comparison_examples", 2000, "Held-out texts drawn to compare before and after.", lower_bound=1
)


def load_texts():
    """Returns the `Texts` that the flags ask for."""
    from experiments.classification import texts

    natural = _CLIENT.value is not None if _DATA.value else _DATASET.value in _WITH_CLIENTS
    division = texts.Division(
        _PARTITION.value or ("natural" if natural else "dirichlet"),
        _NUM_CLIENTS.value,
        _ALPHA.value,
        _HOLD_OUT.value,
        training.SEED.value,
    )
    if _DATA.value:
        return texts.table(_DATA.value, _CLIENT.value, _TEXT.value, _LABEL.value, division)
    if _DATASET.value == "synthetic":
        return texts.synthetic(division)
    if _DATASET.value == "squad_topics":
        return texts.squad_topics(_PATH.value, _NUM_TOPICS.value, division)
    return getattr(texts, _DATASET.value)(_PATH.value, division)


_WITH_CLIENTS = ("sent140", "synthetic")


def load_vocabulary():
    """Returns the `WordPiece` of the model."""
    import fedlab as fl

    vocabulary = _VOCABULARY.value
    if vocabulary is None and not (_DATA.value or _PRETRAINED.value):
        if _DATASET.value == "synthetic":
            vocabulary = fl.datasets.twenty_newsgroups.SYNTHETIC_VOCABULARY
    return fl.question_answering.wordpiece.WordPiece(vocabulary)


def tokenized(clients, vocabulary):
    """Returns the clients with the inputs of BERT in place of texts."""
    import fedlab as fl

    preprocess = fl.datasets.twenty_newsgroups.preprocess
    return clients.map(lambda columns: preprocess(columns, vocabulary, _MAX_LENGTH.value))


def load_model(num_classes, vocabulary):
    """Returns the compiled model that the flags describe."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(training.SEED.value)
    if (_PRETRAINED.value or "").endswith(".keras"):
        model = fl.models.load(_PRETRAINED.value)
        if model.output_shape != (None, num_classes):
            raise ValueError(
                f"--pretrained={_PRETRAINED.value}: expected a model that returns "
                f"{(None, num_classes)}, the logits of {num_classes} labels, but it returns "
                f"{model.output_shape}"
            )
    else:
        sizes = encoder.sizes(_PRETRAINED.value, len(vocabulary), _MAX_LENGTH.value)
        model = fl.models.bert.classification(num_classes, _PRETRAINED.value, **sizes)
    vocabulary.check_fits(model.get_layer("embeddings_word").input_dim)
    if _FREEZE.value:
        fl.models.freeze(model, "*", keep="head*")
    model.optimizer = training.client_optimizer(encoder.CLIENT_OPTIMIZER.value)
    return model


def load_algorithm():
    """Returns the algorithm that the flags describe."""
    import fedlab as fl

    rate, momentum = training.SERVER_LEARNING_RATE.value, training.SERVER_MOMENTUM.value
    if _ALGORITHM.value == "fed_adam":
        return fl.algorithms.fed_adam(rate)
    settings = dict(server_learning_rate=rate, server_momentum=momentum)
    if _ALGORITHM.value == "fed_prox":
        return fl.algorithms.fed_prox(_PROXIMAL.value, **settings)
    return fl.algorithms.fed_avg(**settings)


def draw(clients, size):
    """Draws at most `size` examples; a smaller draw is a subset of a larger one."""
    from fedlab.clients import seeding

    columns = clients.to_arrays()
    rng = seeding.generator(training.SEED.value, "evaluation")
    rows = sorted(rng.permutation(len(columns["y"]))[:size])
    return {name: column[rows] for name, column in columns.items()}


def predicted(model, columns):
    """Returns the labels that a model gives to examples, int [n]."""
    inputs = {name: column for name, column in columns.items() if name != "y"}
    return model.predict(inputs, batch_size=64, verbose=0).argmax(axis=-1)


def write_labels(folder, class_names, y, before, after):
    """Writes labels.csv: per label, how many held-out texts have it, and the accuracy on them."""
    from fedlab._files import write

    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["label", "examples", "accuracy_before", "accuracy"])
    for label, name in enumerate(class_names):
        mine = y == label
        correct = ((labels[mine] == label).sum() for labels in (before, after))
        shares = [f"{count / mine.sum():.4f}" if mine.any() else "" for count in correct]
        table.writerow([name, mine.sum(), *shares])
    write(pathlib.Path(folder) / "labels.csv", out.getvalue().encode())


def print_table(history):
    """Prints the evaluated rounds of the learning curve."""
    names = [
        ("round", "round"),
        ("train_loss", "train loss"),
        ("held_out_loss", "loss"),
        ("held_out_accuracy", "accuracy"),
        ("seconds", "seconds"),
    ]
    common.print_table((row for row in history if "held_out_accuracy" in row), names, digits=4)


def check():
    """Raises an error if flags contradict each other, or the engine cannot run."""
    columns = {"client": _CLIENT.value, "text": _TEXT.value, "label": _LABEL.value}
    given = [name for name, value in columns.items() if value is not None]
    if _DATA.value is None and given:
        raise UsageError(f"--{given[0]}: expected only with --data=FILE; add the file")
    if _DATA.value is not None and (_TEXT.value is None or _LABEL.value is None):
        raise UsageError(f"--data={_DATA.value}: expected --text=COLUMN and --label=COLUMN as well")
    if _DATA.value is None and _DATASET.value == "squad_topics" and _PATH.value is None:
        raise UsageError(
            "--dataset=squad_topics: expected --path=FOLDER of SQuAD's files; or use "
            "--dataset=synthetic, which reads no file"
        )
    reads_path = _DATA.value is None and _DATASET.value != "synthetic"
    if _PATH.value is not None and not reads_path:
        what = f"--data={_DATA.value}" if _DATA.value else "--dataset=synthetic"
        raise UsageError(f"--path={_PATH.value}: expected no path with {what}; leave it out")
    without = _CLIENT.value is None if _DATA.value else _DATASET.value == "twenty_newsgroups"
    if _PARTITION.value == "natural" and without:
        what = "--client=COLUMN" if _DATA.value else "dirichlet or uniform"
        raise UsageError(f"--partition=natural: expected {what}, since the data have no clients")
    if _ALGORITHM.value == "fed_adam" and training.SERVER_MOMENTUM.value:
        raise UsageError(
            f"--server_momentum={training.SERVER_MOMENTUM.value}: expected 0 with "
            "--algorithm=fed_adam; use --algorithm=fed_avg"
        )
    encoder.check_centralized()
    check_engine(training.ENGINE.value)


def main():
    import fedlab as fl

    started = time.time()
    if training.ENGINE.value == "local":
        fl.one_core_per_client()
    found = load_texts()
    vocabulary = load_vocabulary()
    model = load_model(len(found.class_names), vocabulary)
    clients, held_out = (tokenized(part, vocabulary) for part in (found.clients, found.held_out))
    described = fl.data.describe(found.clients, names=found.class_names)
    if encoder.CENTRALIZED.value:
        clients = fl.ClientData.from_dict({"all": clients.to_arrays()})
    compared = draw(held_out, _COMPARISON.value)
    logging.info(
        "%d clients with %d texts and %d labels may train; mean distance of their labels to all "
        "labels %.2f",
        len(found.clients),
        described.num_examples.sum(),
        described.num_labels,
        described.mean_distance,
    )
    run = fl.simulate(
        model,
        clients,
        load_algorithm(),
        **training.simulation_options(),
        **encoder.cohort_options(),
        evaluate_on={"held_out": draw(held_out, _EVALUATION.value)},
    )
    print_table(run.history)
    before, after = (predicted(each, compared) for each in (model, run.model))
    shares = [(labels == compared["y"]).mean() for labels in (before, after)]
    print(
        f"\nAccuracy on {len(compared['y'])} held-out texts: {shares[0]:.4f} before and "
        f"{shares[1]:.4f} after {training.ROUNDS.value} rounds."
    )
    if not encoder.CENTRALIZED.value:
        sent = next(row for row in run.history if row.get("clients_finished"))
        print(f"A client sends {sent['bytes_up'] // sent['clients_finished']:,} bytes per round.")
    if run.path:
        write_labels(run.path, found.class_names, compared["y"], before, after)
        described.save(run.path / "clients.png")
        print(
            f"In {run.path}: the curve in metrics.csv, the accuracy by label in labels.csv, the "
            "labels of each client in clients.png, the model in model.keras."
        )
    print(f"{time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check)
