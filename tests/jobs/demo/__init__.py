"""Tests of `jobs.demo`."""
