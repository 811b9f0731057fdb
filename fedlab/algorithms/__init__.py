"""Federated algorithms, one file per method, named after its paper."""

from fedlab.algorithms import attacks
from fedlab.algorithms.algorithm import Algorithm, ClientResult, Counts, Pass, Task, Update, prepare
from fedlab.algorithms.fed_adagrad import fed_adagrad
from fedlab.algorithms.fed_adam import fed_adam
from fedlab.algorithms.fed_avg import fed_avg
from fedlab.algorithms.fed_avgm import fed_avgm
from fedlab.algorithms.fed_dyn import fed_dyn
from fedlab.algorithms.fed_nova import fed_nova
from fedlab.algorithms.fed_opt import fed_opt
from fedlab.algorithms.fed_prox import fed_prox
from fedlab.algorithms.fed_recon import fed_recon
from fedlab.algorithms.fed_sgd import fed_sgd
from fedlab.algorithms.fed_yogi import fed_yogi
from fedlab.algorithms.fine_tuning import fine_tuning
from fedlab.algorithms.local_adam import local_adam
from fedlab.algorithms.mime import mime
from fedlab.algorithms.mime_lite import mime_lite
from fedlab.algorithms.scaffold import scaffold
from fedlab.algorithms.weighting import by_client

__all__ = [
    "Algorithm",
    "ClientResult",
    "Counts",
    "Pass",
    "Task",
    "Update",
    "attacks",
    "by_client",
    "fed_adagrad",
    "fed_adam",
    "fed_avg",
    "fed_avgm",
    "fed_dyn",
    "fed_nova",
    "fed_opt",
    "fed_prox",
    "fed_recon",
    "fed_sgd",
    "fed_yogi",
    "fine_tuning",
    "local_adam",
    "mime",
    "mime_lite",
    "prepare",
    "scaffold",
]
