"""Analysis: from run directories to figures, tables, a verdict and a report."""
