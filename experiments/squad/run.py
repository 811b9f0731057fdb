"""Trains a model that answers questions by federated averaging: every article of SQuAD is a client.

    python -m experiments.squad.run --flagfile=experiments/squad/pretrained.flags
    --path=FOLDER

The articles of SQuAD's second file (its "dev") never train: a draw of their questions
is answered before the first round and after every few rounds, a larger one before and
after training, also article by article.
"""

import csv
import io
import os
import pathlib
import time

from absl import flags, logging

from experiments import common
from fedlab.cli.flags import UsageError, run_with_flags

_SOURCE = flags.DEFINE_string(
    "source", "json", "Where the questions come from: json, tfds, synthetic."
)
_PATH = flags.DEFINE_string(
    "path",
    None,
    "With json: the folder with train-v1.1.json and dev-v1.1.json, or the same as .json.gz.",
)
_VOCABULARY = flags.DEFINE_string(
    "vocabulary", None, "A vocab.txt. Default: BERT's uncased one; that of the texts for synthetic."
)
_MAX_LENGTH = flags.DEFINE_integer("max_length", 128, "Tokens a window.", lower_bound=16)
_STRIDE = flags.DEFINE_integer(
    "stride", None, "Tokens that two windows share. Default: a third of max_length.", lower_bound=0
)
_ALL_WINDOWS = flags.DEFINE_bool(
    "all_windows", False, "Train on windows without the answer too; they point to [CLS]."
)
_PARTITION = flags.DEFINE_string(
    "partition", "article", "Which clients: article, uniform, dirichlet, quantity."
)
_NUM_CLIENTS = flags.DEFINE_integer(
    "num_clients", 100, "Clients of a partition other than by article.", lower_bound=1
)
_ALPHA = flags.DEFINE_float(
    "alpha", 1.0, "Skew of dirichlet and quantity: the smaller, the less alike.", lower_bound=1e-6
)
_PRETRAINED = flags.DEFINE_string(
    "pretrained",
    None,
    "Weights to start from: minilm, or the path of a BERT checkpoint. Default: random.",
)
_HIDDEN_SIZE = flags.DEFINE_integer(
    "hidden_size", 384, "Width of a model with random weights.", lower_bound=1
)
_NUM_LAYERS = flags.DEFINE_integer(
    "num_layers",
    6,
    "Number of blocks; pretrained weights are used for the first ones.",
    lower_bound=1,
)
_NUM_HEADS = flags.DEFINE_integer(
    "num_heads", 12, "Attention heads of a model with random weights.", lower_bound=1
)
_INTERMEDIATE_SIZE = flags.DEFINE_integer(
    "intermediate_size", 1536, "Feed-forward width with random weights.", lower_bound=1
)
_DROPOUT = flags.DEFINE_float("dropout", 0.1, "Rate of dropout.", lower_bound=0.0, upper_bound=0.99)
_FREEZE = flags.DEFINE_list(
    "freeze",
    None,
    "Layers that keep their weights and are not sent: names, or patterns such as 'embeddings_*'.",
)
_KEEP = flags.DEFINE_list("keep", None, "Layers to train although --freeze matches them.")
_ENGINE = flags.DEFINE_string("engine", "local", "Where clients train: local, tff.")
_PRECISION = flags.DEFINE_string(
    "precision", "float32", "What clients compute in: float32, bfloat16."
)
_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder of the run; the same command on it continues. Default: none is written.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds.", lower_bound=1)
_CLIENTS_PER_ROUND = flags.DEFINE_integer(
    "clients_per_round", 4, "Random clients per round.", lower_bound=1
)
_CENTRALIZED = flags.DEFINE_bool(
    "centralized",
    False,
    "One client that has all the data, and takes the steps of clients_per_round.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)
_CLIENT_OPTIMIZER = flags.DEFINE_enum(
    "client_optimizer", "Adam", ["SGD", "Adam", "AdamW"], "Keras optimizer of the clients."
)
_CLIENT_LEARNING_RATE = flags.DEFINE_float(
    "client_learning_rate", 2e-4, "Rate of the clients' optimizer.", lower_bound=0.0
)
_CLIENT_SCHEDULE = flags.DEFINE_enum(
    "client_schedule", "cosine", ["constant", "cosine"], "The clients' rate from round to round."
)
_CLIENT_CLIP_NORM = flags.DEFINE_float(
    "client_clip_norm", None, "Clips the norm of each client step's gradient.", lower_bound=0.0
)
_SERVER_LEARNING_RATE = flags.DEFINE_float(
    "server_learning_rate", 1.0, "Rate of the server's SGD; 1 is plain averaging.", lower_bound=0.0
)
_SERVER_MOMENTUM = flags.DEFINE_float(
    "server_momentum", 0.0, "Momentum of the server's SGD.", lower_bound=0.0
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Windows per client step.", lower_bound=1)
_LOCAL_EPOCHS = flags.DEFINE_integer(
    "local_epochs", 1, "Passes of a client over its windows per round.", lower_bound=1
)
_MAX_BATCHES = flags.DEFINE_integer(
    "max_batches", 16, "Maximum steps of a client per round.", lower_bound=1
)
_KEEP_MODELS = flags.DEFINE_bool(
    "keep_models",
    False,
    "Save the model of each evaluated round in --run_dir: models/round_<n>.keras.",
)
_EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 4, "Rounds between evaluations.", lower_bound=1
)
_MAX_DROPPED_ROUNDS = flags.DEFINE_integer(
    "max_dropped_rounds",
    3,
    "Consecutive rounds without a usable update before the run stops with an error.",
    lower_bound=1,
)
_EVALUATION = flags.DEFINE_integer(
    "evaluation_questions", 200, "Questions drawn for the curve's evaluations.", lower_bound=1
)
_COMPARISON = flags.DEFINE_integer(
    "comparison_questions", 1000, "Questions drawn to compare before and after.", lower_bound=1
)


def load_windows():
    """(train, test) windows of the questions that the flags ask for."""
    from fedlab.datasets import squad

    lengths = dict(vocabulary=_VOCABULARY.value, max_length=_MAX_LENGTH.value, stride=_STRIDE.value)
    return squad.load_windows(_SOURCE.value, path=_PATH.value, **lengths)


def load_model(windows):
    """The compiled model that the flags describe, for these windows."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(_SEED.value)
    sizes = dict(num_layers=_NUM_LAYERS.value, dropout=_DROPOUT.value, length=_MAX_LENGTH.value)
    if _PRETRAINED.value is None:
        sizes |= dict(
            vocab_size=len(windows.vocabulary),
            max_positions=max(512, _MAX_LENGTH.value),
            hidden_size=_HIDDEN_SIZE.value,
        )
        sizes |= dict(num_heads=_NUM_HEADS.value, intermediate_size=_INTERMEDIATE_SIZE.value)
    model = fl.models.bert.question_answering(_PRETRAINED.value, **sizes)
    fl.question_answering.spans.check_model(model, windows)
    if _FREEZE.value or _KEEP.value:
        fl.models.freeze(model, *(_FREEZE.value or ()), keep=_KEEP.value or ())
    model.optimizer = common.client_optimizer(
        _CLIENT_OPTIMIZER.value, _CLIENT_LEARNING_RATE.value, _CLIENT_CLIP_NORM.value
    )
    return model


def make_clients(windows):
    """The clients that train, as the flags partition them."""
    import numpy as np

    import fedlab as fl

    options = {}
    if _PARTITION.value != "article":
        options = {"num_clients": _NUM_CLIENTS.value, "seed": _SEED.value}
        options |= {} if _PARTITION.value == "uniform" else {"alpha": _ALPHA.value}
    partition = fl.datasets.squad.client_questions(windows.questions, _PARTITION.value, **options)
    rows = {client_id: windows.windows_of(questions) for client_id, questions in partition.items()}
    if not _ALL_WINDOWS.value:
        rows = {client_id: own[windows.y[own].any(axis=1)] for client_id, own in rows.items()}
        rows = {client_id: own for client_id, own in rows.items() if len(own)}
    if _CENTRALIZED.value:
        rows = {"all": np.concatenate(list(rows.values()))}
    return fl.ClientData(rows, lambda client_id: windows.columns(rows[client_id]))


def draw(windows, size):
    """Draws at most `size` questions; a smaller draw is a subset of a larger one."""
    from fedlab.clients import seeding

    order = seeding.generator(_SEED.value, "evaluation").permutation(len(windows.questions))
    return windows.select(sorted(order[:size]))


def keep_models(folder):
    """Returns a function for `evaluate_on` that saves the model, to compare states of training."""
    from fedlab._files import published

    def keep(model, round_num):
        file = pathlib.Path(folder) / "models" / f"round_{round_num}.keras"
        file.parent.mkdir(exist_ok=True)
        with published(file.with_name(f"unfinished_{file.name}"), file) as temporary:
            model.save(temporary)
        return {}

    keep.name, keep.settings = "models", {}  # in config.json
    return keep


def scores_by_article(model, windows):
    """Returns (summary of all, one row per article) of a model's answers."""
    from fedlab.tasks.question_answering import scores as squad
    from fedlab.tasks.question_answering import spans

    found = spans.answers(windows, spans.logits(model, windows))
    scores = squad.scores(windows.questions, spans.predictions(windows, found))
    return squad.summary(scores), squad.by_client(scores, windows.questions)


def write_articles(folder, before, after):
    """Writes articles.csv, with one row per held-out article."""
    from fedlab._files import write

    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["article", "questions", "exact_match_before", "f1_before", "exact_match", "f1"])
    for old, new in zip(before, after, strict=True):
        numbers = (f"{row[name]:.4f}" for row in (old, new) for name in ("exact_match", "f1"))
        table.writerow([new["client_id"], new["total"], *numbers])
    write(pathlib.Path(folder) / "articles.csv", out.getvalue().encode())


def print_table(history):
    """The learning curve as a table on stdout: the rounds that were evaluated."""
    names = [
        ("round", "round"),
        ("train_loss", "train loss"),
        ("held_out_loss", "loss"),
        ("held_out_exact_match", "EM"),
    ]
    names += [("held_out_f1", "F1"), ("seconds", "seconds")]
    common.print_table((row for row in history if "held_out_f1" in row), names, digits=3)


def check():
    """Raises UsageError where flags do not go together."""
    if _CENTRALIZED.value and _LOCAL_EPOCHS.value > 1:
        raise UsageError(
            f"--local_epochs={_LOCAL_EPOCHS.value}: expected 1 with --centralized; raise "
            "--max_batches instead"
        )
    if _KEEP_MODELS.value and not _RUN_DIR.value:
        raise UsageError("--keep_models: expected a run folder; give --run_dir=FOLDER")


def main():
    import fedlab as fl

    started = time.time()
    train, test = load_windows()
    model = load_model(train)
    clients = make_clients(train)
    curve = draw(test, _EVALUATION.value)
    logging.info(
        "%d clients may train; %d of %d held-out questions make the curve",
        len(clients),
        len(curve.questions),
        len(test.questions),
    )
    evaluate_on = {"held_out": fl.question_answering.Evaluator(curve)}
    if _RUN_DIR.value:
        evaluate_on["probe"] = fl.question_answering.probe.of_windows(
            curve, os.path.join(_RUN_DIR.value, fl.question_answering.probe.FILE)
        )
    if _KEEP_MODELS.value:
        evaluate_on["models"] = keep_models(_RUN_DIR.value)
    run = fl.simulate(
        model,
        clients,
        fl.algorithms.fed_avg(
            server_learning_rate=_SERVER_LEARNING_RATE.value, server_momentum=_SERVER_MOMENTUM.value
        ),
        rounds=_ROUNDS.value,
        clients_per_round=1 if _CENTRALIZED.value else _CLIENTS_PER_ROUND.value,
        seed=_SEED.value,
        client_learning_rate=common.client_schedule(
            _CLIENT_SCHEDULE.value, _CLIENT_LEARNING_RATE.value, _ROUNDS.value
        ),
        engine=_ENGINE.value,
        precision=_PRECISION.value,
        batch_size=_BATCH_SIZE.value,
        local_epochs=_LOCAL_EPOCHS.value,
        max_batches=_MAX_BATCHES.value * (_CLIENTS_PER_ROUND.value if _CENTRALIZED.value else 1),
        evaluate_on=evaluate_on,
        evaluate_every=_EVALUATE_EVERY.value,
        max_dropped_rounds=_MAX_DROPPED_ROUNDS.value,
        run_dir=_RUN_DIR.value,
    )
    print_table(run.history)
    compared = draw(test, _COMPARISON.value)
    (before, articles_before), (after, articles_after) = (
        scores_by_article(m, compared) for m in (model, run.model)
    )
    higher = sum(new["f1"] > old["f1"] for old, new in zip(articles_before, articles_after))
    print(
        f"\n{after['total']} questions of {len(articles_after)} held-out articles, before and "
        f"after {_ROUNDS.value} rounds:"
    )
    print(
        f"exact match {before['exact_match']:.2f} and {after['exact_match']:.2f}, F1 "
        f"{before['f1']:.2f} and {after['f1']:.2f}."
    )
    print(f"F1 is higher after than before in {higher} of the articles.")
    if run.path:
        write_articles(run.path, articles_before, articles_after)
        print(
            f"The model is in {os.path.join(run.path, 'model.keras')}, the curve in metrics.csv "
            "beside it, each article in articles.csv."
        )
        print(f"`fedlab squad probe --run_dir={run.path}` draws what a few questions' logits did.")
    print(f"{time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check)
