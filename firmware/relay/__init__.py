"""Disconnection rules and the coil driver. Imports core."""
