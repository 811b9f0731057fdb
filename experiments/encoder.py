"""The flags of experiments that train a BERT encoder with a head, and what they mean."""

from typing import Any

from absl import flags

from experiments import training
from fedlab.cli.flags import UsageError

HIDDEN_SIZE = flags.DEFINE_integer(
    "hidden_size", 384, "Width of a model with random weights.", lower_bound=1
)
NUM_LAYERS = flags.DEFINE_integer(
    "num_layers",
    6,
    "Number of blocks; of pretrained weights, the first ones are used.",
    lower_bound=1,
)
NUM_HEADS = flags.DEFINE_integer(
    "num_heads", 12, "Attention heads of a model with random weights.", lower_bound=1
)
INTERMEDIATE_SIZE = flags.DEFINE_integer(
    "intermediate_size", 1536, "Feed-forward width with random weights.", lower_bound=1
)
DROPOUT = flags.DEFINE_float("dropout", 0.1, "Rate of dropout.", lower_bound=0.0, upper_bound=0.99)
CLIENT_OPTIMIZER = flags.DEFINE_enum(
    "client_optimizer", "Adam", ["SGD", "Adam", "AdamW"], "Keras optimizer of the clients."
)
CENTRALIZED = flags.DEFINE_bool(
    "centralized",
    False,
    "One client that has all the data, and takes the steps of clients_per_round.",
)


def sizes(pretrained: str | None, vocab_size: int, length: int) -> dict[str, Any]:
    """Returns the sizes of the encoder, as arguments of the functions of `fedlab.models.bert`.

    Args:
      pretrained: the weights to start from, which have most of the sizes, or None.
      vocab_size: the number of word pieces.
      length: tokens per example.
    """
    given: dict[str, Any] = dict(num_layers=NUM_LAYERS.value, dropout=DROPOUT.value, length=length)
    if pretrained is None:
        given |= dict(
            vocab_size=vocab_size,
            max_positions=max(512, length),
            hidden_size=HIDDEN_SIZE.value,
            num_heads=NUM_HEADS.value,
            intermediate_size=INTERMEDIATE_SIZE.value,
        )
    return given


def check_centralized() -> None:
    """Raises UsageError if --centralized contradicts another flag."""
    if CENTRALIZED.value and training.LOCAL_EPOCHS.value > 1:
        raise UsageError(
            f"--local_epochs={training.LOCAL_EPOCHS.value}: expected 1 with --centralized; raise "
            "--max_batches instead"
        )


def cohort_options() -> dict[str, int]:
    """Returns the clients per round and their steps, as arguments of `fedlab.simulate`."""
    clients, batches = training.CLIENTS_PER_ROUND.value, training.MAX_BATCHES.value
    if CENTRALIZED.value:
        return dict(clients_per_round=1, max_batches=batches * clients)
    return dict(clients_per_round=clients, max_batches=batches)
