"""Boards: what lies between `firmware/` and hardware; README.md in this folder is the contract."""
