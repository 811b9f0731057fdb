"""What the studies' `run.py` have in common. TensorFlow is imported only where it is needed: --help waits for none."""


def client_optimizer(name, learning_rate, clip_norm=None):
    """The Keras optimizer that flags describe; `clip_norm` limits the norm of a step's gradient."""
    import tensorflow as tf

    return getattr(tf.keras.optimizers, name)(learning_rate, global_clipnorm=clip_norm)


def client_schedule(name, learning_rate, rounds):
    """The schedule of the clients' rate over the rounds: None for "constant", else "cosine", which falls to a twentieth."""
    from fedlab.optimizers import schedules

    return (
        None
        if name == "constant"
        else schedules.cosine(learning_rate, rounds=rounds, final=0.05 * learning_rate)
    )


def print_table(rows, names, digits):
    """A learning curve on stdout.

    Args:
      rows: dicts, as of `fedlab.Run.history`.
      names: (key, title) of each column; a row may lack it.
      digits: decimals of what is not an int.
    """
    print("  ".join(f"{title:>10}" for _, title in names))
    for row in rows:
        cells = [row.get(key) for key, _ in names]
        texts = [
            "" if cell is None else str(cell) if isinstance(cell, int) else f"{cell:.{digits}f}"
            for cell in cells
        ]
        print("  ".join(f"{text:>10}" for text in texts))
