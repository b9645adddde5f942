"""The journal on flash: what the meter must not lose. Imports core only."""
