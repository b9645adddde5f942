"""Sensor driver, energy registers and load profile. Imports core."""
