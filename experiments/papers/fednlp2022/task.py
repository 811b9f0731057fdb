"""The question-answering task of FedNLP: data, partitions, model, and what chance gives."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlab.clients import partitioners, seeding

PARTITIONS = ("uniform", "topic", "article")


@functools.cache
def load_windows(source: str, path: pathlib.Path | None, max_length: int):
    """Returns (train, test) `Windows` of SQuAD 1.1.

    Args:
      source: "json" for the published files in `path`, or "synthetic".
      path: the folder of the files.
      max_length: tokens per window.
    """
    from fedlab.datasets import squad

    if source == "synthetic":
        path = None
    return squad.load_windows(source, path=path, max_length=max_length)


def client_questions(questions, partition: str, settings: Mapping[str, Any], seed: int):
    """Returns client_id -> indices of its questions.

    Args:
      questions: of the `Windows` that train.
      partition: "uniform"; "topic", whose clients are equally large and have topics drawn
        from a Dirichlet distribution; or "article", one client for each.
      settings: num_clients, num_topics, alpha.
      seed: of the partition. The topics themselves do not depend on it.
    """
    from fedlab.datasets import squad

    if partition == "article":
        return squad.client_questions(questions, "article")
    if partition == "uniform":
        return partitioners.uniform(len(questions), settings["num_clients"], seed=seed)
    return partitioners.dirichlet(
        squad.question_topics(questions, settings["num_topics"]),
        num_clients=settings["num_clients"],
        alpha=settings["alpha"],
        seed=seed,
        balanced=True,
    )


def make_clients(windows, partition: str, settings: Mapping[str, Any], seed: int):
    """Returns the clients of a partition as `ClientData`, or "centralized": one with all."""
    from fedlab.clients.client_data import ClientData

    if partition == "centralized":
        chosen = {"all": np.arange(len(windows.questions))}
    else:
        chosen = client_questions(windows.questions, partition, settings, seed)
    rows = {client_id: windows.windows_of(own) for client_id, own in chosen.items()}
    if not settings["all_windows"]:
        rows = {client_id: own[windows.y[own].any(axis=1)] for client_id, own in rows.items()}
    rows = {client_id: own for client_id, own in rows.items() if len(own)}
    return ClientData(rows, lambda client_id: windows.columns(rows[client_id]))


def draw_questions(windows, size: int):
    """Returns the `Windows` of `size` questions, the same ones for every seed."""
    order = seeding.generator(0, "evaluation").permutation(len(windows.questions))
    return windows.select(np.sort(order[:size]))


def make_model(windows, method: str, settings: Mapping[str, Any], seed: int):
    """Returns the compiled model, an encoder with a head that marks the answer.

    As in the authors' code, clients use Adam for FedOPT and SGD for FedAvg and FedProx,
    and clip the norm of the gradient.
    """
    import tensorflow as tf

    import fedlab as fl

    tf.keras.utils.set_random_seed(seed)
    sizes = dict(settings["sizes"])
    if not settings["pretrained"]:
        sizes |= {"vocab_size": len(windows.vocabulary)}
    model = fl.models.bert.question_answering(
        settings["pretrained"], length=settings["max_length"], **sizes
    )
    if settings["frozen_blocks"] is not None:
        fl.models.freeze(model, *fl.models.bert.up_to(settings["frozen_blocks"]))
    clip = dict(global_clipnorm=settings["clip_norm"])
    if method == "fed_opt":
        model.optimizer = tf.keras.optimizers.Adam(settings["adam_rate"], epsilon=1e-8, **clip)
    else:
        model.optimizer = tf.keras.optimizers.SGD(settings["sgd_rate"], **clip)
    return model


def chance(windows, max_answer_length: int) -> dict[str, float]:
    """Returns exact match and F1, in %, of answers drawn at random.

    Every start and end has a random logit, so that the best span is a random one.
    """
    from fedlab.tasks.question_answering import scores, spans

    rng = seeding.generator(0, "chance")
    logits = rng.normal(size=[windows.num_windows, 2, windows.max_length])
    found = spans.answers(windows, logits, max_answer_length=max_answer_length)
    found = scores.scores(windows.questions, spans.predictions(windows, found))
    summary = scores.summary(found)
    return {name: summary[name] for name in ("exact_match", "f1")}


def capped_sizes(topic_sizes: np.ndarray, num_clients: int, alpha: float, seed: int) -> np.ndarray:
    """Returns the sizes of clients by the rule of the authors' first Dirichlet partition.

    ```
    for each topic:
      p ~ Dirichlet(alpha, ..., alpha)
      p_i = 0 for each client i that has an equal share of all questions
      client i gets the share p_i / sum(p) of the topic's questions
    ```

    Args:
      topic_sizes: the number of questions of each topic.
      num_clients, alpha: of the partition.
      seed: of the proportions.

    Returns:
      float64 [num_clients], not rounded.
    """
    rng = seeding.generator(seed, "capped")
    sizes = np.zeros([num_clients])
    for total in topic_sizes:
        shares = rng.dirichlet(np.full([num_clients], alpha))
        shares *= sizes < topic_sizes.sum() / num_clients
        sizes += shares / shares.sum() * total
    return sizes


def count(train, test, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Returns the numbers of the data that the authors published, as counted here.

    Args:
      train, test: the `Windows` of both files.
      settings: num_clients, num_topics, alpha.
      seed: of the partitions.
    """
    from fedlab.datasets import squad

    topics = squad.question_topics(train.questions, settings["num_topics"])
    topic_sizes, num_clients = np.bincount(topics), settings["num_clients"]
    uncapped = partitioners.dirichlet(
        topics, num_clients=num_clients, alpha=1.0, seed=seed, min_examples=0
    )
    sizes = {
        name: [len(own) for own in client_questions(train.questions, name, settings, seed).values()]
        for name in PARTITIONS
    }
    return {
        "articles": len(sizes["article"]),
        **{f"{name}_questions": float(np.median(sizes[name])) for name in PARTITIONS},
        "answers": sum(len(each.answers) for part in (train, test) for each in part.questions),
        "topic_spread": spread(topic_sizes),
        "capped_spread": spread(capped_sizes(topic_sizes, num_clients, 1.0, seed)),
        "dirichlet_spread": spread([len(own) for own in uncapped.values()]),
    }


def spread(sizes) -> float:
    """Returns the standard deviation of sizes, as a share of their mean.

    Example:
      >>> spread([1, 3])
      0.5
    """
    return float(np.std(sizes) / np.mean(sizes))
