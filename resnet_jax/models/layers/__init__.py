"""The layers of all nets, and the laws of their initial values."""
