"""One client's update, to look at."""

import contextlib
from typing import Any, NamedTuple

from fedlab import _checks
from fedlab.clients import Batching
from fedlab.clients.availability import participation
from fedlab.engines import local
from fedlab.engines.setting import make_setting
from fedlab.learner import weight_arrays


class ClientUpdate(NamedTuple):
    """What one client sends in a round, before an aggregator treats it.

    Attributes:
      delta: the global weights minus the trained ones, arrays in the order of the model's `trainable_weights`.
      weight: float, how much the client counts.
      metrics: name -> float, the metrics of its training, "loss" first; None for each without an example.
      num_examples, num_tokens, num_steps: int, as in `Run.clients`.
      finite: bool; False where `simulate` would drop the client, because a number in its update is NaN or infinite.
      non_trainable_delta: the global values minus the client's, of the non-trainable weights that are averaged.
      extras: what else the algorithm has clients send, a nest of arrays.
      state: what the client keeps for its next round, a nest of arrays.
    """

    delta: list
    weight: float
    metrics: dict
    num_examples: int
    num_tokens: int
    num_steps: int
    finite: bool
    non_trainable_delta: list
    extras: Any
    state: Any


def client_update(
    model,
    clients,
    client_id,
    algorithm=None,
    *,
    round_num=1,
    cohort=None,
    seed=0,
    batch_size=8,
    local_epochs=1,
    max_batches=None,
    shuffle=True,
    drop_remainder=False,
    client_learning_rate=None,
    class_weight=None,
    non_trainable="average",
    precision="float32",
    conditions=None,
):
    """Trains one client and returns its update: what it sends in that round of `fedlab.simulate`, bit for bit.

    Args:
      model: a compiled Keras model, or a function that makes one, with the global weights at the start of the round. It is not changed.
      clients: a `ClientData`.
      client_id: whose update; one of `clients`.
      algorithm: as in `fedlab.simulate`.
      round_num: which round, 1 or more: batches, dropout and schedules depend on it. Where clients or the server keep a state between
        rounds (SCAFFOLD, FedDyn, Mime, local Adam), or weights depend on earlier rounds, only the first round is known: 1.
      cohort: the round's client ids, for an algorithm whose clients all measure something before they train: Mime.
      seed, batch_size, local_epochs, max_batches, shuffle, drop_remainder, client_learning_rate, class_weight, non_trainable, precision,
        conditions: as in `fedlab.simulate`.

    Returns:
      A `ClientUpdate`.

    Raises:
      TypeError, ValueError: an argument is wrong, or the client sends nothing in this round, as `conditions` say.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> update = fl.client_update(model, train, "ROLE_1")
      >>> [delta.shape for delta in update.delta] == [weight.shape for weight in model.trainable_weights]
      True
    """
    setting = make_setting(
        model,
        clients,
        algorithm,
        seed=seed,
        batching=Batching(batch_size, local_epochs, shuffle, max_batches, drop_remainder),
        client_learning_rate=client_learning_rate,
        class_weight=class_weight,
        conditions=conditions,
        non_trainable=non_trainable,
        precision=precision,
    )
    _checks.check_int("round_num", round_num)
    cohort = _cohort(setting, client_id, cohort)
    if setting.conditions and (
        reason := participation(setting.conditions, client_id, round_num, seed).drop_reason
    ):
        raise ValueError(
            f"client {client_id!r} sends nothing in round {round_num} ({reason}); choose another client or round."
        )
    with contextlib.closing(local.start(setting)) as process:
        state = process.init(*weight_arrays(setting.model))
        result, changes, finite, metrics, counts = process.run_client(
            state, round_num, client_id, cohort
        )
    counts = [int(count[0]) for count in (counts.num_examples, counts.num_tokens, counts.num_steps)]
    return ClientUpdate(
        result.delta,
        float(result.weight),
        metrics,
        *counts,
        finite,
        changes,
        result.extras,
        result.state,
    )


def _cohort(setting, client_id, cohort):
    """The cohort as a list of known clients with this one among them."""
    if client_id not in setting.clients:
        raise ValueError(
            f"client_id is {client_id!r:.60}; allowed: one of `client_ids` of the data."
        )
    if cohort is None and setting.algorithm.survey:
        raise ValueError(
            f"algorithm {setting.algorithm.name!r} tells clients what all clients of the round measure: "
            "pass cohort=, the round's client ids."
        )
    if isinstance(cohort, str) or not isinstance(cohort, (list, tuple, type(None))):
        raise TypeError(f"cohort is {cohort!r:.60}; allowed: a list of client ids.")
    cohort = [client_id] if cohort is None else list(cohort)
    if unknown := [each for each in cohort if each not in setting.clients]:
        raise ValueError(
            f"cohort names the unknown clients {unknown[:3]}; allowed: `client_ids` of the data."
        )
    if client_id not in cohort or len(set(cohort)) < len(cohort):
        raise ValueError(
            f"cohort is {cohort!r:.60}; allowed: distinct client ids, with {client_id!r} among them."
        )
    return cohort
