"""Pre-trains the shipped `dickens_char_rnn` on two Dickens novels, centrally.

    scripts/pretrain --books=<folder with the two .txt files> --out_dir=<folder>

Every epoch reads the books as sequences of 100 characters from a new random offset, in
a new order. After every epoch the model is written to
`<out_dir>/dickens_char_rnn.safetensors` (half precision) and evaluated, as shipped, on
the last part of each book and on Shakespeare's roles, before any fine-tuning;
`<out_dir>/history.json` keeps the figures. With --ship the last epoch's model becomes
the package's own.
"""

import json
import os

from absl import flags, logging

from fedlab.cli.flags import UsageError, run_with_flags

_BOOKS = flags.DEFINE_string(
    "books",
    None,
    "Folder that holds a_tale_of_two_cities.txt and a_christmas_carol.txt.",
    required=True,
)
_OUT_DIR = flags.DEFINE_string("out_dir", "runs/dickens", "Where weights and history go.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Passes over the books.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Sequences per step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 2e-3, "Adam's peak rate; it falls to zero as a cosine.", lower_bound=0.0
)
_UNITS = flags.DEFINE_integer("units", 1024, "Width of the GRU.", lower_bound=1)
_SHIP = flags.DEFINE_bool("ship", False, "Put the trained model into the package.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the weights and of the order of the sequences.")

SEQUENCE_LENGTH = 100
HELD_OUT = 0.05  # the last part of each book
SHAKESPEARE_SEQUENCES = 1000


def read_books(folder):
    """Returns (training parts, held-out parts), each a list of int32 [characters], one per book."""
    from fedlab.tasks.generation import text

    train, held_out = [], []
    for name in ("a_tale_of_two_cities", "a_christmas_carol"):
        path = os.path.join(folder, f"{name}.txt")
        if not os.path.exists(path):
            raise UsageError(
                f"--books={folder}: expected a folder that holds both books; {name}.txt is missing"
            )
        with open(path, encoding="ascii") as file:
            ids = text.encode(file.read())
        border = int(len(ids) * (1 - HELD_OUT))
        train.append(ids[:border])
        held_out.append(ids[border:])
    return train, held_out


def epoch_sequences(books, rng):
    """Returns one shuffled pass over the books: x and y, int32 [n, SEQUENCE_LENGTH]."""
    import numpy as np

    from fedlab.tasks.generation import text

    parts = [
        text.sequences(book[rng.integers(SEQUENCE_LENGTH) :], SEQUENCE_LENGTH, drop_remainder=True)
        for book in books
    ]
    x, y = (np.concatenate([part[name] for part in parts]) for name in ("x", "y"))
    order = rng.permutation(len(x))
    return x[order], y[order]


def shakespeare_sequences():
    """Returns sequences of the roles' held-out text, as columns x, y and sample_weight."""
    import numpy as np

    import fedlab as fl

    _, test = fl.datasets.shakespeare.load()
    columns = test.to_arrays()
    rows = np.random.default_rng(0).permutation(len(columns["x"]))[:SHAKESPEARE_SEQUENCES]
    return {name: column[rows] for name, column in columns.items()}


def main():
    import numpy as np
    import tensorflow as tf

    import fedlab as fl
    from fedlab.learner import accelerated
    from fedlab.models import shipped

    train, held_out = read_books(_BOOKS.value)
    os.makedirs(_OUT_DIR.value, exist_ok=True)
    tf.keras.utils.set_random_seed(_SEED.value)
    rng = np.random.default_rng(_SEED.value)
    evaluation_sets = {
        "dickens": dict(zip(("x", "y"), epoch_sequences(held_out, np.random.default_rng(0)))),
        "shakespeare": shakespeare_sequences(),
    }
    steps = len(epoch_sequences(train, np.random.default_rng(0))[0]) // _BATCH_SIZE.value

    arguments = {"units": _UNITS.value}
    model = fl.models.char_rnn(**arguments)
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.0, _EPOCHS.value * steps, warmup_target=_LEARNING_RATE.value, warmup_steps=steps // 4
    )
    model.compile(
        tf.keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        loss=model.loss,
        metrics=["accuracy"],
    )
    history = []
    with accelerated(model):
        for epoch in range(_EPOCHS.value):
            x, y = (column[: steps * _BATCH_SIZE.value] for column in epoch_sequences(train, rng))
            fitted = model.fit(x, y, batch_size=_BATCH_SIZE.value, shuffle=False, verbose=0)
            shipped.save_pretrained(
                model, "dickens_char_rnn", "char_rnn", arguments, folder=_OUT_DIR.value
            )
            as_shipped = shipped.load_shipped("dickens_char_rnn", folder=_OUT_DIR.value)
            history.append({"epoch": epoch + 1, "train_loss": fitted.history["loss"][0]})
            for name, columns in evaluation_sets.items():
                history[-1].update(
                    {
                        f"{name}_{metric}": value
                        for metric, value in fl.evaluate(as_shipped, columns).items()
                    }
                )
            logging.info("%s", history[-1])
            with open(os.path.join(_OUT_DIR.value, "history.json"), "w") as file:
                json.dump(history, file, indent=1)
    if _SHIP.value:
        shipped.save_pretrained(model, "dickens_char_rnn", "char_rnn", arguments)


if __name__ == "__main__":
    run_with_flags(main)
