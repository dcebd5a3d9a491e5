"""Tests of what runs inside the container."""
