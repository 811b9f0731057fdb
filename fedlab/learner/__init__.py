"""A compiled Keras model as functions of its weights. Only this package uses Keras's internals."""
