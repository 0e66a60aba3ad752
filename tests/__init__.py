"""Tests of atofx; `tests.models` holds the small nets."""
