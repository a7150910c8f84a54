"""Programs compiled for GPUs and TPUs that need not be there: ``python -m benchmarks.programs``."""
