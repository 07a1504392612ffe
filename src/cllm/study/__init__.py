"""Experiments with proper statistics: plan, run, compare, report."""
