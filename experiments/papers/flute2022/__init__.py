"""The speed of Fed-Shakespeare, as measured by FLUTE (Garcia et al. 2022)."""
