"""Engines: where client work runs.

An engine is a module of this folder that has `start`; see `fedlab.engines.engine`.
"""
