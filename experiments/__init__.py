"""The commands of the laboratory; each is run as ``python -m experiments.NAME``."""
