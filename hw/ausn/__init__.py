"""Lanes that shift and add instead of multiplying: AUSN, and Booth lanes to compare with."""
