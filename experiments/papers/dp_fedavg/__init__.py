"""DP-FedAvg: McMahan et al. 2018, with the adaptive clipping of Andrew et al. 2021."""
