"""Reddi et al. 2021 on Shakespeare."""
