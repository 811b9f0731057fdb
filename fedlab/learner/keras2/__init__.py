"""The learner for Keras 2."""
