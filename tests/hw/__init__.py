"""Tests of the room hw."""
