"""LEAF's Shakespeare: Caldas et al. 2018."""
