"""Sweeps: many runs from one file, on this machine or on a cluster.

Nothing is imported here, because sweep files import ``grid`` and must not import jax.
"""
