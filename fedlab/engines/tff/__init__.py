"""The engine of TensorFlow Federated (TFF): a reference to check the other engines against.

TFF's own algorithms run in TFF's runtime, from the clients' training loop to the server
step. Clients read the same batches as with every other engine, and the model trains as
`tf.keras.Model.fit` would train it: compiled loss, masks, sample weights, regularization.

What TFF does not support raises ValueError. These things differ from other engines:

- Dropout and other random layers draw other numbers than with `local`, and different ones
  in every process. Runs with such layers are not reproducible.
- TFF reports neither the loss of single clients nor which of several clients had an update
  that was not finite. Both are None in `RoundResult.clients`.

TFF's worker process starts when it is first needed. It ends with `close()`, with an error or
Ctrl-C in a round, and with the Python process, however that ends. Between rounds it is
replaced if it has grown to more than twice its size, and by more than 256 MiB. It listens on
a port of all network interfaces without a password: see SECURITY.md.
"""

import importlib.util
from typing import TYPE_CHECKING

from fedlab.learner import stack

if TYPE_CHECKING:
    from fedlab.engines.setting import Setting
    from fedlab.engines.tff.process import TffProcess


def check_installed() -> None:
    """Raises ModuleNotFoundError if TFF cannot be used; the message says how to install it."""
    if stack.name() != "tff":
        raise ModuleNotFoundError(
            "engine='tff': expected the tff stack (Python 3.11, TensorFlow 2.14, Keras 2.14), "
            "which TensorFlow Federated 0.87 needs, but this is the modern stack; run "
            "scripts/setup --stack=tff in fedlab's repository and use .venv-tff/bin/python, or "
            "use engine='local'"
        )
    if importlib.util.find_spec("tensorflow_federated") is None:
        raise ModuleNotFoundError(
            "engine='tff': TensorFlow Federated is not installed; install requirements-tff.lock, "
            "as scripts/setup --stack=tff does, or use engine='local'"
        )


def start(setting: "Setting") -> "TffProcess":
    """Returns a process for `setting`; see `fedlab.engines.engine`.

    This takes seconds, because TFF traces the model several times.

    Raises:
      ModuleNotFoundError: as `check_installed`.
      ValueError: TFF does not support a part of the setting; the message says what it
        supports.
      RuntimeError: a round at client learning rate 0 does not return the weights unchanged.
    """
    check_installed()
    from fedlab.engines.tff.process import TffProcess

    return TffProcess(setting)
