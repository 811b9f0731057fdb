"""The flags of experiments that train one model, and what they mean for `fedlab.simulate`."""

from typing import Any

from absl import flags

ENGINE = flags.DEFINE_string("engine", "local", "Where clients train: local, tff.")
PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "What clients' layers compute in; weights stay float32.",
)
RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder of the run; the same command on it continues. Default: none is written.",
)
ROUNDS = flags.DEFINE_integer("rounds", 20, "Number of rounds.", lower_bound=1)
CLIENTS_PER_ROUND = flags.DEFINE_integer(
    "clients_per_round", 10, "Random clients per round.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0)
CLIENT_LEARNING_RATE = flags.DEFINE_float(
    "client_learning_rate", 0.5, "Rate of the clients' optimizer.", lower_bound=0.0
)
CLIENT_SCHEDULE = flags.DEFINE_enum(
    "client_schedule", "constant", ["constant", "cosine"], "The clients' rate over the rounds."
)
CLIENT_CLIP_NORM = flags.DEFINE_float(
    "client_clip_norm", None, "Clips the norm of each client step's gradient.", lower_bound=0.0
)
SERVER_LEARNING_RATE = flags.DEFINE_float(
    "server_learning_rate", 1.0, "Rate of the server's SGD; 1 is plain averaging.", lower_bound=0.0
)
SERVER_MOMENTUM = flags.DEFINE_float(
    "server_momentum", 0.0, "Momentum of the server's SGD.", lower_bound=0.0
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Examples per client step.", lower_bound=1)
LOCAL_EPOCHS = flags.DEFINE_integer(
    "local_epochs", 1, "Passes of a client over its examples per round.", lower_bound=1
)
MAX_BATCHES = flags.DEFINE_integer(
    "max_batches", None, "Maximum steps of a client per round.", lower_bound=1
)
EVALUATE_EVERY = flags.DEFINE_integer(
    "evaluate_every", 1, "Rounds between evaluations.", lower_bound=1
)
MAX_DROPPED_ROUNDS = flags.DEFINE_integer(
    "max_dropped_rounds",
    3,
    "Consecutive rounds without a usable update before the run stops with an error.",
    lower_bound=1,
)


def client_optimizer(name: str) -> Any:
    """Returns the Keras optimizer `name` as the flags describe it."""
    import tensorflow as tf

    return getattr(tf.keras.optimizers, name)(
        CLIENT_LEARNING_RATE.value, global_clipnorm=CLIENT_CLIP_NORM.value
    )


def simulation_options() -> dict[str, Any]:
    """Returns the arguments of `fedlab.simulate` that are the same in all experiments."""
    from fedlab.optimizers import schedules

    rate, rounds = CLIENT_LEARNING_RATE.value, ROUNDS.value
    cosine = CLIENT_SCHEDULE.value == "cosine"
    return dict(
        rounds=rounds,
        seed=SEED.value,
        client_learning_rate=(
            schedules.cosine(rate, rounds=rounds, final=0.05 * rate) if cosine else None
        ),
        engine=ENGINE.value,
        precision=PRECISION.value,
        batch_size=BATCH_SIZE.value,
        local_epochs=LOCAL_EPOCHS.value,
        evaluate_every=EVALUATE_EVERY.value,
        max_dropped_rounds=MAX_DROPPED_ROUNDS.value,
        run_dir=RUN_DIR.value,
    )
