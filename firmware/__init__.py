"""Bijli meter firmware: one importable package, the same on the ESP32 and on the host."""

VERSION = "0.1.0"
