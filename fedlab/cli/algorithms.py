"""Lists the federated algorithms: what each does, and its papers."""

from fedlab.cli import _listing


def add_arguments(parser):
    pass


def run(args):
    print(_listing.listing("algorithms"))
