"""The parts of `benchmarks.coverage`."""
