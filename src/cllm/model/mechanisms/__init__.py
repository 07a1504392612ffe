"""The mechanisms: number-theoretic parts that can be switched on, one file each."""
