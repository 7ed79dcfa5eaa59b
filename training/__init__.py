"""Recorded predictions to trained Askers and Trusters."""
