"""Rounds to a target accuracy, FedAvg against FedSGD (McMahan et al. 2017, section 3)."""
