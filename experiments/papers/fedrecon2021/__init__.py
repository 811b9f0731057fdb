"""Singhal et al. 2021 on MovieLens."""
