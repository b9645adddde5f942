"""What a person reads on the serial port. Imports core."""
