"""The relay's rules without a meter: every state of them, and a year of a thousand households."""
