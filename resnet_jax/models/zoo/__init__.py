"""Families of nets that are not made of the residual blocks."""
