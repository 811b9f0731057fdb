"""The engine of TensorFlow Federated: its own algorithms in its own runtime, as an oracle for the others.

Clients read the same batches as in every engine, and the model trains as `tf.keras.Model.fit` would train it: compiled loss, masks, sample
weights and regularization. Everything else, from the clients' training loop to the server's step, is TFF's.

What TFF lacks raises ValueError. What differs: dropout and other random layers draw other numbers than in `local`, others in every
process, so that only without them a run is repeated, or goes on after an interruption, to the same bits; and TFF reports no loss of single
clients, nor which of several clients had an update that was not finite; both are None in `RoundResult.clients`.

TFF's worker process is started when first needed and ended by `close()`, by an error or Ctrl-C in a round, and with Python, however that
ends. It is replaced between rounds where it has grown to twice its size, and by 256 MiB at least. It listens on a port of every address of
the machine, without a password: see SECURITY.md.
"""


def start(setting):
    """Returns a process for `setting`; see `fedlab.engines.engine`. Takes seconds: TFF traces the model several times.

    Raises:
      ModuleNotFoundError: TensorFlow Federated is not installed.
      ValueError: for what TFF lacks; says what it has.
      RuntimeError: a round at client learning rate 0 does not give back the weights that it was given.
    """
    try:
        import tensorflow_federated  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "engine 'tff' needs TensorFlow Federated, which is not installed: install requirements.lock, as scripts/setup does."
        ) from None
    from fedlab.engines.tff.process import TffProcess

    return TffProcess(setting)
