"""Reports: from the numbers of the analysis to figures, tables and pages."""
