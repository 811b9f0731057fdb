"""Trains a question answering model by federated averaging; each article of SQuAD is a client.

    python -m experiments.squad.run --flagfile=experiments/squad/pretrained.flags --path=FOLDER

The articles of SQuAD's second file (its "dev") are never trained on. A draw of their
questions is answered before the first round and after every few rounds. A larger draw is
answered before and after training, and scored by article too.
"""

import csv
import io
import os
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
    (training.MAX_BATCHES, 16),
    (training.EVALUATE_EVERY, 4),
):
    flags.set_default(_flag, _default)
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
_MAX_LENGTH = flags.DEFINE_integer("max_length", 128, "Tokens per window.", lower_bound=16)
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
_FREEZE = flags.DEFINE_list(
    "freeze",
    None,
    "Layers that keep their weights and are not sent: names, or patterns such as 'embeddings_*'.",
)
_KEEP = flags.DEFINE_list("keep", None, "Layers to train although --freeze matches them.")
_KEEP_MODELS = flags.DEFINE_bool(
    "keep_models",
    False,
    "Save the model of each evaluated round in --run_dir: models/round_<n>.keras.",
)
_EVALUATION = flags.DEFINE_integer(
    "evaluation_questions", 200, "Questions drawn for the curve's evaluations.", lower_bound=1
)
_COMPARISON = flags.DEFINE_integer(
    "comparison_questions", 1000, "Questions drawn to compare before and after.", lower_bound=1
)


def load_windows():
    """Returns (train, test) windows of the questions that the flags ask for."""
    from fedlab.datasets import squad

    lengths = dict(vocabulary=_VOCABULARY.value, max_length=_MAX_LENGTH.value, stride=_STRIDE.value)
    return squad.load_windows(_SOURCE.value, path=_PATH.value, **lengths)


def load_model(windows):
    """Returns the compiled model that the flags describe, for these windows."""
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(training.SEED.value)
    sizes = encoder.sizes(_PRETRAINED.value, len(windows.vocabulary), _MAX_LENGTH.value)
    model = fl.models.bert.question_answering(_PRETRAINED.value, **sizes)
    fl.question_answering.spans.check_model(model, windows)
    if _FREEZE.value or _KEEP.value:
        fl.models.freeze(model, *(_FREEZE.value or ()), keep=_KEEP.value or ())
    model.optimizer = training.client_optimizer(encoder.CLIENT_OPTIMIZER.value)
    return model


def make_clients(windows):
    """Returns the clients that train, partitioned as the flags say."""
    import numpy as np

    import fedlab as fl

    options = {}
    if _PARTITION.value != "article":
        options = {"num_clients": _NUM_CLIENTS.value, "seed": training.SEED.value}
        options |= {} if _PARTITION.value == "uniform" else {"alpha": _ALPHA.value}
    partition = fl.datasets.squad.client_questions(windows.questions, _PARTITION.value, **options)
    rows = {client_id: windows.windows_of(questions) for client_id, questions in partition.items()}
    if not _ALL_WINDOWS.value:
        rows = {client_id: own[windows.y[own].any(axis=1)] for client_id, own in rows.items()}
        rows = {client_id: own for client_id, own in rows.items() if len(own)}
    if encoder.CENTRALIZED.value:
        rows = {"all": np.concatenate(list(rows.values()))}
    return fl.ClientData(rows, lambda client_id: windows.columns(rows[client_id]))


def draw(windows, size):
    """Draws at most `size` questions; a smaller draw is a subset of a larger one."""
    from fedlab.clients import seeding

    order = seeding.generator(training.SEED.value, "evaluation").permutation(len(windows.questions))
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


def _comparison(before, after, windows):
    """Returns the main result of the report."""
    metrics = ("exact_match", "f1")
    return {
        "examples": len(windows.questions),
        "clients": len({question.title for question in windows.questions}),
        "training": 0,
        "before": {name: before[name] for name in metrics},
        "after": {name: after[name] for name in metrics},
    }


def print_table(history):
    """Prints the evaluated rounds of the learning curve."""
    names = [
        ("round", "round"),
        ("train_loss", "train loss"),
        ("held_out_loss", "loss"),
        ("held_out_exact_match", "EM"),
    ]
    names += [("held_out_f1", "F1"), ("seconds", "seconds")]
    common.print_table((row for row in history if "held_out_f1" in row), names, digits=3)


def check():
    """Raises an error if flags contradict each other, or the engine cannot run."""
    encoder.check_centralized()
    if _KEEP_MODELS.value and not training.RUN_DIR.value:
        raise UsageError("--keep_models: expected a run folder; give --run_dir=FOLDER")
    check_engine(training.ENGINE.value)


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
    if training.RUN_DIR.value:
        evaluate_on["probe"] = fl.question_answering.probe.of_windows(
            curve, os.path.join(training.RUN_DIR.value, fl.question_answering.probe.FILE)
        )
    if _KEEP_MODELS.value:
        evaluate_on["models"] = keep_models(training.RUN_DIR.value)
    run = fl.simulate(
        model,
        clients,
        fl.algorithms.fed_avg(
            server_learning_rate=training.SERVER_LEARNING_RATE.value,
            server_momentum=training.SERVER_MOMENTUM.value,
        ),
        **training.simulation_options(),
        **encoder.cohort_options(),
        evaluate_on=evaluate_on,
    )
    print_table(run.history)
    compared = draw(test, _COMPARISON.value)
    (before, articles_before), (after, articles_after) = (
        scores_by_article(m, compared) for m in (model, run.model)
    )
    higher = sum(new["f1"] > old["f1"] for old, new in zip(articles_before, articles_after))
    print(
        f"\n{after['total']} questions of {len(articles_after)} held-out articles, before and "
        f"after {training.ROUNDS.value} rounds:"
    )
    print(
        f"exact match {before['exact_match']:.2f} and {after['exact_match']:.2f}, F1 "
        f"{before['f1']:.2f} and {after['f1']:.2f}."
    )
    print(f"F1 is higher after than before in {higher} of the articles.")
    if run.path:
        write_articles(run.path, articles_before, articles_after)
        fl.write_comparison(run.path, {"held_out_articles": _comparison(before, after, compared)})
        print(
            f"The model is in {os.path.join(run.path, 'model.keras')}, the curve in metrics.csv "
            "beside it, each article in articles.csv."
        )
        print(f"`fedlab squad probe --run_dir={run.path}` draws what a few questions' logits did.")
    print(f"{time.time() - started:.0f} seconds.")


if __name__ == "__main__":
    run_with_flags(main, check)
