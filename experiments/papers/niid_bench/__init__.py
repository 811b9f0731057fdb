"""NIID-Bench, Li et al. 2022: four algorithms and three partitions of images."""
