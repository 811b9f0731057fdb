"""The examples and seeds of clients in a round, as tensors for the graphs of `client_work`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fedlab.algorithms import Counts
from fedlab.clients import seeding
from fedlab.clients.columns import num_bytes
from fedlab.clients.lru import LruCache
from fedlab.engines import batches as batching
from fedlab.engines import blocks
from fedlab.engines.engine import Setting

CACHE_BYTES = 2**25
"""The size limit of the client columns that an engine keeps as tensors: 32 MiB."""

_TENSOR_BYTES = 4096  # what a tensor needs beside its values, rounded up


class Client(NamedTuple):
    """Who a client is, and the seeds of its random draws: tensors [clients, ...].

    Attributes:
      id: string.
      layers: int64, the seed of dropout and other random layers in this round.
      aggregator: int64 [clients, 2], the seed of the aggregator's draws in this round.
      seed: int64 [clients, 2], the seed of the algorithm's draws in this round.
      lasting_seed: int64 [clients, 2], a seed that is the same in every round.
    """

    id: Any
    layers: Any
    aggregator: Any
    seed: Any
    lasting_seed: Any


class ClientBlocks:
    """Lays out the examples that clients train on.

    Args:
      setting: a `Setting`.
    """

    def __init__(self, setting: Setting):
        self._setting = setting
        self._packed: LruCache[dict] = LruCache(CACHE_BYTES)

    def make(
        self, round_num: int, client_ids: Sequence[str], client_weights: Mapping[str, float]
    ) -> tuple[tuple[blocks.Block, Counts, Client], Counts]:
        """Lays out a block of clients in a round.

        Args:
          round_num: int.
          client_ids: the clients.
          client_weights: client id -> what `Algorithm.weigh` gives the client, where it does.

        Returns:
          ((`Block`, `Counts`, `Client`) of tensors, the same `Counts` of float32 arrays [clients]).
        """
        setting = self._setting
        parts = [batching.client_batches(setting, round_num, client_id) for client_id in client_ids]
        counts = Counts(
            num_examples=_floats(part.examples.sum() for part in parts),
            num_tokens=_floats(part.tokens.sum() for part in parts),
            num_steps=_floats(len(part.real) for part in parts),
            client_weight=_floats(client_weights.get(client_id, 1.0) for client_id in client_ids),
        )
        data = (
            blocks.make_block(parts, list(map(self._pack, client_ids, parts))),
            Counts(*map(tf.constant, counts)),
            _clients(setting.seed, round_num, client_ids),
        )
        return data, counts

    def _pack(self, client_id, part):
        """What `fedlab.engines.blocks.pack` returns for a client with these `Batches`."""
        packed = self._packed.get(client_id)
        if packed is None:
            packed = blocks.pack(part.source)
            size = num_bytes(part.source) + _TENSOR_BYTES * len(packed)
            self._packed.add(client_id, packed, size)
        return packed


def _floats(numbers):
    return np.array([*numbers], np.float32)


def _clients(seed, round_num, client_ids):
    """The `Client` of a block in a round."""
    clients = [
        Client(
            id=client_id,
            layers=seeding.generator(seed, "dropout", round_num, client_id).integers(2**63),
            aggregator=seeding.stateless(seed, "aggregator", round_num, client_id),
            seed=seeding.stateless(seed, "client", round_num, client_id),
            lasting_seed=seeding.stateless(seed, "client", client_id),
        )
        for client_id in client_ids
    ]
    return Client(*(tf.constant(np.stack(values)) for values in zip(*clients)))
