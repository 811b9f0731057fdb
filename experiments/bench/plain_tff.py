"""Federated averaging as in TFF's tutorials: its Keras adapter, algorithm and default runtime."""

import psutil
import tensorflow as tf
import tensorflow_federated as tff

from experiments.bench.keras_loop import full_batches


class PlainTffProcess:
    """An engine as in `fedlab.engines.engine`; `state` is TFF's.

    It supports plain SGD and full batches, and no non-trainable weights.

    Args:
      setting: a `Setting`.
      make_model: a function without arguments that builds the model. A copy made from a
        model's configuration would lose its recurrent weights in TFF.
    """

    def __init__(self, setting, make_model):
        self.setting = setting
        first = next(iter(self._dataset(0, setting.clients.client_ids[0])))
        spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), first)

        def model_fn():
            return tff.learning.models.from_keras_model(
                make_model(),
                input_spec=spec,
                loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
            )

        rate = float(setting.model.optimizer.learning_rate)
        self._process = tff.learning.algorithms.build_weighted_fed_avg(
            model_fn, tff.learning.optimizers.build_sgdm(rate)
        )

    def init(self, trainable, non_trainable):
        return self._process.set_model_weights(
            self._process.initialize(), tff.learning.models.ModelWeights(trainable, non_trainable)
        )

    def weights(self, state):
        return list(state.global_model_weights.trainable), []

    def run_round(self, state, round_num, cohort):
        output = self._process.next(
            state, [self._dataset(round_num, client_id) for client_id in cohort]
        )
        return output.state, None

    def close(self):
        """Ends TFF's worker, which would outlive this process."""
        for child in psutil.Process().children():
            child.kill()

    def _dataset(self, round_num, client_id):
        examples = full_batches(self.setting, round_num, client_id)
        return tf.data.Dataset.from_tensor_slices(examples).batch(self.setting.batching.batch_size)
