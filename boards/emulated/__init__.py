"""The emulated board: README.md in this folder is its contract."""
