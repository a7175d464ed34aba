"""Decisions as plain data and functions: no I/O, no clock, no chance, no third party."""
