"""The commands; run each as ``python -m experiments.NAME``."""
