"""Makes run folders without a simulation, so that every number of a report is known."""

import contextlib
import json

from fedlab.runs.write.records import Records

CONFIG = {
    "format_version": 2,
    "stack": "modern",
    "engine": "local",
    "cohort": {"name": "uniform", "clients_per_round": 2},
    "algorithm": "fed_avg",
    "algorithm_settings": {
        "client_weighting": "num_examples",
        "server_learning_rate": 0.5,
        "server_momentum": 0.0,
    },
    "aggregator": "mean",
    "aggregator_settings": {},
    "batching": {
        "batch_size": 16,
        "epochs": 1,
        "shuffle": True,
        "max_batches": None,
        "drop_remainder": False,
    },
    "seed": 0,
    "num_clients": 3,
    "evaluation_examples": {"new_clients": 60, "each": {"clients": 3, "test": 30}},
    "evaluation_clients": {
        "new_clients": {"clients": 57, "training": 0},
        "each": {"clients": 3, "training": 3},
    },
    "optimizer": {"class": "SGD", "learning_rate": 0.10000000149011612, "momentum": 0.0},
    "loss": {"class": "MeanSquaredError", "name": "mse", "reduction": "sum_over_batch_size"},
    "model": ["InputLayer", "Dense", "Dense"],
    "model_name": "triage",
    "weights": ["float32 [4, 8] not trainable", "float32 [8] not trainable", "float32 [8, 2]"],
    "layers": [
        {"class": "Dense", "name": "features", "trainable": False, "units": 8},
        {"class": "Dense", "name": "scores", "trainable": True, "units": 2},
    ],
    "layer_table": [
        {
            "name": "features",
            "class": "Dense",
            "output": ["(None, 8)"],
            "parameters": 40,
            "trainable_parameters": 0,
        },
        {
            "name": "scores",
            "class": "Dense",
            "output": ["(None, 2)"],
            "parameters": 16,
            "trainable_parameters": 16,
        },
    ],
    "versions": {"fedlab": "0.1.0"},
    "commit": None,
}
SECONDS = (20.0, 2.0, 2.0, 4.0)  # of the rounds; the first compiles graphs
LOSSES = (2.0, 1.5, 1.25, 1.0, 0.75)
ACCURACIES = (0.25, 0.5, 0.25, 0.75, 0.625)
# Client -> its accuracy in the last round, before training, and its number of examples.
CLIENTS = {"ann": (0.75, 0.5, 10), "bob": (0.25, 0.5, 12), "cat & <dog>": (0.5, 0.125, 8)}


def make_run(folder, rounds=4, seconds=SECONDS, rows=None, config=None):
    """Writes a finished run of four rounds.

    Args:
      folder: the new folder.
      rounds: the number of rounds, at most 4.
      seconds: the duration of each round.
      rows: entries of all rows but the first, that replace the usual ones.
      config: entries of config.json that replace the usual ones; None removes one.
    """
    folder.mkdir(parents=True)
    settings = {**CONFIG, "rounds": rounds, **(config or {})}
    settings = {name: value for name, value in settings.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "model.keras").write_bytes(b"")
    with contextlib.closing(Records(folder / "clients.sqlite")) as records:
        for round_num in range(rounds + 1):
            row = {
                "round": round_num,
                "new_clients_loss": LOSSES[round_num],
                "new_clients_accuracy": ACCURACIES[round_num],
            }
            clients = []
            if round_num:
                row |= {
                    "train_loss": LOSSES[round_num] / 2,
                    "clients_asked": 2,
                    "clients_finished": 2,
                    "clients_dropped": 0,
                    "bytes_down": 1000,
                    "bytes_up": 1000,
                    "seconds": seconds[round_num - 1],
                    **(rows or {}),
                }
                clients = [
                    {
                        "client_id": client_id,
                        "num_examples": size,
                        "num_tokens": size,
                        "num_steps": 1,
                        "weight": 1.0,
                        "loss": 1.0 - accuracy,
                        "dropped": False,
                        "reason": "",
                        "metrics": {},
                    }
                    for client_id, (accuracy, _, size) in list(CLIENTS.items())[:2]
                ]
            evaluations = []
            if round_num in (0, rounds) and "each" in settings.get("evaluation_examples", {}):
                evaluations = [
                    {
                        "part": "each",
                        "client_id": client_id,
                        "num_examples": size,
                        "metric": "accuracy",
                        "value": before if round_num == 0 else after,
                    }
                    for client_id, (after, before, size) in CLIENTS.items()
                ]
                row["each_accuracy"] = 0.5
            records.add(1.7e9 + 60 * round_num, row, clients, evaluations)
    return folder
