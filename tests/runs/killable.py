"""A run to kill, in a process that ends itself at a given moment or is ended from outside.

    python -m tests.runs.killable ENGINE FOLDER [KILL]    one run
    python -m tests.runs.killable serve                   forks a run for each line of standard
                                                          input, a JSON list of arguments

A moment is a call that matters for resuming: writing the second half of a file, os.fsync and
os.replace of a file, a commit of SQLite, an evaluation, and a block of batches inside one. KILL
is "12-" or "12+": SIGKILL before or after call number 12, counted from 0. The names of the calls,
with the kind of file, are written to FOLDER.calls, one per line, such as "replace checkpoint".
"""

import itertools
import json
import os
import pathlib
import signal
import sqlite3
import sys
import threading

ROUNDS = 4
SECONDS = {"seconds", "time"}  # what differs from run to run


def model(dropout=0.3):
    import tensorflow as tf

    layers = tf.keras.layers
    frozen = layers.Dense(16, "tanh", trainable=False)
    made = tf.keras.Sequential(
        [
            layers.Input([5]),
            frozen,
            layers.Dense(8, "relu"),
            layers.Dropout(dropout),
            layers.Dense(3),
        ],
        name="model",
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(tf.keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    rng = tf.random.Generator.from_seed(1)
    for weight in made.weights:
        weight.assign(rng.uniform(weight.shape, -0.5, 0.5))
    return made


def run(engine, folder, rounds=ROUNDS):
    """A run with everything that has a state.

    That is dropout, momentum on clients, a frozen layer, dropped clients, SCAFFOLD's control
    variates, and callbacks. With engine "tff": momentum on the server, and no dropout, because
    TFF draws other masks in every process.
    """
    import numpy as np

    import fedlab as fl

    rng = np.random.default_rng(0)

    def examples(n):
        return {"x": rng.normal(size=[n, 5]).astype(np.float32), "y": rng.integers(0, 3, n)}

    clients = fl.ClientData.from_dict({f"client_{i}": examples(40 + 15 * i) for i in range(8)})
    algorithm = (
        fl.algorithms.scaffold()
        if engine == "local"
        else fl.algorithms.fed_avg(server_momentum=0.9)
    )
    return fl.simulate(
        model() if engine == "local" else model(dropout=0.0),
        clients,
        algorithm,
        rounds=rounds,
        clients_per_round=4,
        seed=3,
        engine=engine,
        batch_size=4,
        local_epochs=2,
        conditions=fl.clients.dropouts(0.2),
        evaluate_on={"other": examples(200)},
        evaluation_batch_size=4,
        callbacks=[
            fl.callbacks.BestModel("other_loss"),
            fl.callbacks.EarlyStopping("other_loss", patience=ROUNDS + 1),
        ],
        run_dir=folder,
        num_workers=2,
        progress=False,
    )


def end_at(moment, log):
    """Counts calls from now on and ends this process at one of them; "" is none."""
    number, after = (int(moment[:-1]), moment[-1] == "+") if moment else (None, False)
    numbers, one_at_a_time = itertools.count(), threading.Lock()

    def called(name, call, *arguments, **options):
        with one_at_a_time:  # several threads evaluate: a call's number is its line
            mine = next(numbers)
            os.write(log, f"{name}\n".encode())
        if mine == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if mine == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    class Connection(sqlite3.Connection):
        def __init__(self, database, **options):
            super().__init__(database, **options)
            self.name = pathlib.Path(database).stem

        def commit(self):
            called(f"commit {self.name}", super().commit)

    from fedlab import _files
    from fedlab.engines import client_work
    from fedlab.evaluation.evaluations import Evaluations

    evaluate, make_work = Evaluations.run, client_work.evaluate

    def evaluation_work(*arguments):
        *others, prepare = arguments
        return make_work(*others, lambda item: called("inside evaluate", prepare, item))

    Evaluations.run = lambda *arguments: called("evaluate", evaluate, *arguments)
    client_work.evaluate = evaluation_work
    fsync, replace, connect, opened = os.fsync, os.replace, sqlite3.connect, open
    os.fsync = lambda file: called(
        f"fsync {kind(os.readlink(f'/proc/self/fd/{file}'))}", fsync, file
    )
    os.replace = lambda source, target: called(f"replace {kind(target)}", replace, source, target)
    sqlite3.connect = lambda database, **options: connect(database, factory=Connection, **options)

    class Halfway:
        """A file each of whose writes has a moment when half of the bytes are on disk."""

        def __init__(self, path, mode):
            self.path, self.file = path, opened(path, mode)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, part):
            half = len(part) // 2
            self.file.write(part[:half])
            self.file.flush()
            called(f"write {kind(self.path)}", self.file.write, part[half:])

    _files.open = Halfway


def kind(path):
    """What a file of a run folder is: "checkpoint", "folder", or its name."""
    path = pathlib.Path(path)
    if path.is_dir():
        return "folder"
    return (
        "checkpoint"
        if path.name.startswith("round_")
        else path.name.removesuffix(".tmp").replace(".tmp.", ".")
    )


def main(engine, folder, moment=""):
    log = os.open(f"{folder}.calls", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    end_at(moment, log)
    run(engine, folder)


def serve():
    """Answers each line with the process id of a run, and with its exit code when it has ended."""
    import tensorflow  # noqa: F401  forks have it already; nothing has run, so that no thread is there to lose

    import fedlab as fl

    fl.simulate, fl.algorithms, fl.clients  # noqa: B018  imported now
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                main(*json.loads(line))
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main(*sys.argv[1:])
