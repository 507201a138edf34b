"""Measures of networks and machines: parameters, multiply-adds, memory, time."""
