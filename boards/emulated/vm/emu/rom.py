"""The chip's ROM partition: code that runs from it in place takes no heap for its bytecode.

As on a chip built with ROMFS: mounted at /rom when it holds a file system, replaced by
`mpremote romfs deploy` through `vfs.rom_ioctl`, and a new content counts from the next reset on.
The partition lies in memory outside the garbage-collected heap, as mapped flash does.
"""

import ffi
import uctypes
import vfs

import emu

BLOCK_BYTES = 4096
PARTITION_BYTES = 262144

_HEADER = b"\xd2\xcd\x31"
_file = None  # of the host, open before its file system is taken away
_mapped = b""


def rom_ioctl(op, *args):
    """As `vfs.rom_ioctl` of a chip with one partition."""
    if op == 1:  # number of partitions
        return 1 if emu.settings.get("rom_partition", True) else 0
    if args[0] != 0:
        return -19  # ENODEV
    if op == 2:  # the partition's memory
        return memoryview(_mapped)
    if op == 6:
        return BLOCK_BYTES
    if op == 3:  # prepare so many bytes; returns the least size of a write
        blank = b"\xff" * BLOCK_BYTES
        _file.seek(0)
        for _ in range((args[1] + BLOCK_BYTES - 1) // BLOCK_BYTES):
            _file.write(blank)
        return 4
    if op == 4:
        _file.seek(args[1])
        _file.write(args[2])
        return 0
    return 0 if op == 5 else -22  # EINVAL


def load(path):
    """Map the partition in the host's file `path`."""
    global _file, _mapped
    _file = open(path, "r+b")
    address = ffi.open(None).func("p", "malloc", "L")(PARTITION_BYTES + 64)
    _mapped = uctypes.bytearray_at((address + 63) & ~63, PARTITION_BYTES)
    _file.readinto(_mapped)


def mount():
    """Mount what the partition holds at /rom; returns the folders to import from."""
    if rom_ioctl(1) == 0 or bytes(_mapped[:3]) != _HEADER:
        return []
    vfs.mount(vfs.VfsRom(memoryview(_mapped)), "/rom")
    return ["/rom", "/rom/lib"]
