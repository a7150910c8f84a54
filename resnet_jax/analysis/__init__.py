"""Analysis: from run directories to numbers: errors, gaps, verdicts and rates."""
