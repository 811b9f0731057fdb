"""The update of a single client, for inspection."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fedlab import _checks
from fedlab.algorithms import Algorithm
from fedlab.clients import Batching, ClientData
from fedlab.clients.availability import participation
from fedlab.engines import local
from fedlab.engines.engine import Setting
from fedlab.engines.setting import make_setting
from fedlab.learner import weight_arrays


class ClientUpdate(NamedTuple):
    """The update of one client in a round, as it reaches the aggregator.

    Attributes:
      delta: the global weights minus the trained ones, arrays in the order of the
        model's `trainable_weights`.
      weight: the client weight.
      metrics: name -> float, its training metrics, "loss" first; None for a client
        without examples.
      num_examples, num_tokens, num_steps: as in `Run.clients`.
      finite: False if a number in the update is NaN or infinite; `simulate` would drop
        the client.
      non_trainable_delta: the global values minus the client's, of the non-trainable
        weights that are averaged.
      extras: the algorithm's extras, a nest of arrays.
      state: the client state for its next round, a nest of arrays.
    """

    delta: list[Any]
    weight: float
    metrics: dict[str, float | None]
    num_examples: int
    num_tokens: int
    num_steps: int
    finite: bool
    non_trainable_delta: list[Any]
    extras: Any
    state: Any


def client_update(
    model: Any,
    clients: ClientData,
    client_id: str,
    algorithm: Algorithm | None = None,
    *,
    round_num: int = 1,
    cohort: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    local_epochs: int = 1,
    max_batches: int | None = None,
    shuffle: bool = True,
    drop_remainder: bool = False,
    client_learning_rate: Any = None,
    class_weight: Mapping[int, float] | None = None,
    non_trainable: str = "average",
    precision: str = "float32",
    conditions: Any = None,
) -> ClientUpdate:
    """Trains one client and returns its update.

    It has the same bits as the client's update in that round of `fedlab.simulate`.

    Args:
      model: a compiled Keras model, or a function that makes one, with the global
        weights at the start of the round. It is not changed.
      clients: a `ClientData`.
      client_id: the client, one of `clients`.
      algorithm: as in `fedlab.simulate`.
      round_num: the round, 1 or more. Batches, dropout and schedules depend on it. For
        an algorithm with states of clients or of the server (SCAFFOLD, FedDyn, Mime,
        local Adam), or with weights that depend on earlier rounds, only round 1 is
        possible.
      cohort: the round's client ids, for an algorithm that surveys the cohort (Mime).
      seed, batch_size, local_epochs, max_batches, shuffle, drop_remainder: as in
        `fedlab.simulate`.
      client_learning_rate, class_weight, non_trainable, precision, conditions: as in
        `fedlab.simulate`.

    Returns:
      A `ClientUpdate`.

    Raises:
      TypeError, ValueError: an argument is wrong, or `conditions` drop the client in
        this round.

    Example:
      >>> import fedlab as fl
      >>> train, test = fl.datasets.shakespeare.synthetic(num_clients=3)
      >>> model = fl.models.char_rnn(units=8, embedding_dim=4)
      >>> update = fl.client_update(model, train, "ROLE_1")
      >>> len(update.delta) == len(model.trainable_weights)
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
            f"client {client_id!r} is dropped in round {round_num} ({reason}): choose another "
            "client or round"
        )
    with contextlib.closing(local.start(setting)) as process:
        state = process.init(*weight_arrays(setting.model))
        result, changes, finite, metrics, counts = process.run_client(
            state, round_num, client_id, cohort
        )
    return ClientUpdate(
        delta=result.delta,
        weight=float(result.weight),
        metrics=metrics,
        num_examples=int(counts.num_examples[0]),
        num_tokens=int(counts.num_tokens[0]),
        num_steps=int(counts.num_steps[0]),
        finite=finite,
        non_trainable_delta=changes,
        extras=result.extras,
        state=result.state,
    )


def _cohort(setting: Setting, client_id: str, cohort: Sequence[str] | None) -> list[str]:
    """The cohort as a list of known clients with this one among them."""
    if client_id not in setting.clients:
        raise _checks.value_error("client_id", client_id, "one of the client ids of `clients`")
    if cohort is None and setting.algorithm.survey:
        raise ValueError(
            f"algorithm {setting.algorithm.name!r} surveys the cohort: expected cohort=, the "
            "round's client ids"
        )
    if isinstance(cohort, str) or not isinstance(cohort, (list, tuple, type(None))):
        raise _checks.type_error("cohort", cohort, "a list of client ids")
    cohort = [client_id] if cohort is None else list(cohort)
    if unknown := [each for each in cohort if each not in setting.clients]:
        raise ValueError(
            f"cohort has the unknown clients {unknown[:3]}: expected client ids of `clients`"
        )
    if client_id not in cohort or len(set(cohort)) < len(cohort):
        raise ValueError(
            f"cohort={cohort!r:.60}: expected different client ids, among them {client_id!r}"
        )
    return cohort
