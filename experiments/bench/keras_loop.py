"""Federated averaging written by hand with Keras: `set_weights`, `fit`, and an average in NumPy."""

import numpy as np

from fedlab.clients.columns import keras_batch
from fedlab.engines.batches import client_batches


class KerasProcess:
    """An engine as in `fedlab.engines.engine`; `state` is the list of the model's weights.

    All clients share one model, which is compiled once. Clients must have full batches,
    and the model only trainable weights.
    """

    def __init__(self, setting):
        self.setting = setting
        self.model = setting.build()
        self.model.optimizer.build(self.model.trainable_variables)
        self._fresh_optimizer = [variable.numpy() for variable in self.model.optimizer.variables]
        if self.model.non_trainable_weights:
            raise ValueError(
                f"model {self.model.name!r}: expected only trainable weights, got "
                f"{len(self.model.non_trainable_weights)} others"
            )

    def init(self, trainable, non_trainable):
        return list(trainable)

    def weights(self, state):
        return list(state), []

    def run_round(self, state, round_num, cohort):
        total, num_examples = [np.zeros_like(w) for w in state], 0
        for client_id in cohort:
            x, y = full_batches(self.setting, round_num, client_id)
            self.model.set_weights(state)
            for variable, value in zip(self.model.optimizer.variables, self._fresh_optimizer):
                variable.assign(value)
            self.model.fit(
                x, y, batch_size=self.setting.batching.batch_size, shuffle=False, verbose=0
            )
            total = [t + len(y) * w for t, w in zip(total, self.model.get_weights())]
            num_examples += len(y)
        return [t / num_examples for t in total], None

    def close(self):
        pass


def full_batches(setting, round_num, client_id):
    """Returns (x, y): a client's examples in the order in which all engines read them."""
    batches = client_batches(setting, round_num, client_id)
    if (batches.sizes != setting.batching.batch_size).any():
        raise ValueError(f"client {client_id!r}: expected only full batches")
    return keras_batch(
        {name: column.reshape([-1, *column.shape[2:]]) for name, column in batches.columns.items()}
    )
