"""Li et al. 2020 (FedProx) on synthetic data."""
