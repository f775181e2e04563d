"""Tests on the real Gemma 3 270M, which `make real-model` fetches; skipped where it is not."""
