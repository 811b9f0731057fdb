"""Partitioners: which examples belong to which client, as pure functions of (data, seed).

A partition is a dict client_id -> int64 [n], the client's rows in increasing order.
Every row belongs to exactly one client, unless a partitioner says otherwise.

Every partitioner has two forms:

```
dirichlet(labels, num_clients=10, alpha=0.5, seed=0)       # -> a partition
dirichlet(num_clients=10, alpha=0.5, seed=0)               # -> a Partitioner, reads "y"
dirichlet("topic", num_clients=10, alpha=0.5, seed=0)      # -> a Partitioner, reads "topic"
```

A `Partitioner` is a function columns -> partition, for the columns of all examples,
name -> [n, ...]. Any other function of this form can be used in its place, and so can a
partition itself. `partition` applies one and checks the result; `clients` makes a
`ClientData` of it.

`rotated`, `noisy`, `tinted` and `transformed` change the features of existing clients.
"""

from fedlab.clients.partitioners._apply import clients, partition
from fedlab.clients.partitioners._method import Partition, Partitioner
from fedlab.clients.partitioners._parse import parse
from fedlab.clients.partitioners.by_time import by_time
from fedlab.clients.partitioners.clusters import cluster_labels, clusters
from fedlab.clients.partitioners.dirichlet import dirichlet
from fedlab.clients.partitioners.feature_skew import noisy, rotated, tinted, transformed
from fedlab.clients.partitioners.labels_per_client import labels_per_client
from fedlab.clients.partitioners.leaf import leaf
from fedlab.clients.partitioners.leaf_synthetic import leaf_sizes, leaf_synthetic
from fedlab.clients.partitioners.log_normal import log_normal
from fedlab.clients.partitioners.natural import natural
from fedlab.clients.partitioners.pachinko import pachinko
from fedlab.clients.partitioners.power_law import power_law
from fedlab.clients.partitioners.quantity_skew import quantity_skew
from fedlab.clients.partitioners.shards import shards
from fedlab.clients.partitioners.uniform import uniform

__all__ = [
    "Partition",
    "Partitioner",
    "by_time",
    "clients",
    "cluster_labels",
    "clusters",
    "dirichlet",
    "labels_per_client",
    "leaf",
    "leaf_sizes",
    "leaf_synthetic",
    "log_normal",
    "natural",
    "noisy",
    "pachinko",
    "parse",
    "partition",
    "power_law",
    "quantity_skew",
    "rotated",
    "shards",
    "tinted",
    "transformed",
    "uniform",
]
