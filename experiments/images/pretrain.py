"""Pretrains an image model with plain Keras, all data in one place, for `--pretrained`.

    python -m experiments.images.pretrain --path=FOLDER

By default it learns the first five classes of Fashion-MNIST, and the presets `frozen` and
`fine_tuned` transfer it to the other five. The same command on the same kind of machine
gives the same weights.
"""

import pathlib
import time

from absl import flags, logging

from experiments.images import data
from fedlab.cli.flags import check_folder, run_with_flags

flags.adopt_module_key_flags(data)
flags.set_default(data.CLASSES, ["0", "1", "2", "3", "4"])
_MODEL = flags.DEFINE_enum(
    "model", "fedavg_cnn", ["fedavg_cnn", "emnist_cnn", "lenet", "two_nn"], "What to train."
)
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Passes over the images.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images per step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Adam's rate.", lower_bound=1e-9)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)
_OUT = flags.DEFINE_string("out", "runs/images/base.keras", "The .keras file to write.")


def check():
    data.check()
    check_folder("out", pathlib.Path(_OUT.value).parent)


def main():
    import tensorflow as tf

    import fedlab as fl
    from fedlab._files import published
    from fedlab.clients import partitioners

    started = time.time()
    images = data.load(partitioners.uniform(num_clients=1, seed=0), None, _SEED.value)
    columns = images.train.to_arrays()
    tf.keras.utils.set_random_seed(_SEED.value)
    tf.config.experimental.enable_op_determinism()
    model = getattr(fl.models, _MODEL.value)(len(images.names), input_shape=columns["x"].shape[1:])
    model.compile(tf.keras.optimizers.Adam(_LEARNING_RATE.value), model.loss, metrics=["accuracy"])
    for epoch in range(_EPOCHS.value):
        fitted = model.fit(columns["x"], columns["y"], batch_size=_BATCH_SIZE.value, verbose=0)
        logging.info("epoch %d: loss %.4f", epoch + 1, fitted.history["loss"][0])
    accuracy = fl.evaluate(model, images.test)["accuracy"]
    file = pathlib.Path(_OUT.value)
    file.parent.mkdir(parents=True, exist_ok=True)
    with published(file.with_name(f"unfinished_{file.name}"), file) as temporary:
        model.save(temporary)
    print(
        f"{_MODEL.value}, {len(columns['y'])} images of {', '.join(images.names)}: accuracy "
        f"{accuracy:.4f} on {len(images.test['y'])} test images. The model is {file}; "
        f"{time.time() - started:.0f} seconds."
    )


if __name__ == "__main__":
    run_with_flags(main, check)
