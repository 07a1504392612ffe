"""Exact number theory: primes, certified reals, lattices, spirals; no torch."""
