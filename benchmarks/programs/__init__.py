"""What the compilers of GPUs and TPUs make of the project's programs; ``python -m benchmarks.programs``."""
