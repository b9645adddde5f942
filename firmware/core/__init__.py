"""Units, time arithmetic, digests and the record table. Imports nothing else of ours."""
