"""Studies that reproduce papers: `python -m experiments.papers --list`."""
