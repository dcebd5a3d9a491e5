"""Tests with the real vLLM on a CPU."""
