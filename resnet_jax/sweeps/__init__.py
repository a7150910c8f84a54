"""Sweeps: many runs from one file, on this machine or on a cluster.

Nothing is imported here, because sweep files, which use ``grid``, must not import jax.
"""
