"""The chip's flash: a file of the host with 4096-byte blocks, and littlefs on it.

Writes go straight to the host's file (no buffer), so killing the process is a power cut.
`erases` and `writes` count operations since this run began; `cut_at_write` (a setting, or a command
that counts from now) cuts the power in the middle of the n-th write. The command `refuse_writes`
has writes and erases fail.
"""

import errno

import vfs

import emu
from emu import control

BLOCK_SIZE = 4096
BLOCKS = 512
ENOSPC = 28  # MicroPython's errno does not name it

erases = 0
writes = 0
_ERASED = b"\xff" * BLOCK_SIZE


class Flash:
    """Block device with the extended interface (reads and writes within a block)."""

    def __init__(self, path):
        self.file = open(path, "r+b")
        self.cut_at_write = emu.settings.get("cut_at_write", 0)
        self.refuses = 0  # errno of every write and erase; 0: they succeed

    def readblocks(self, block, buf, offset=0):
        self.file.seek(block * BLOCK_SIZE + offset)
        self.file.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        global writes
        if self.refuses:
            return -self.refuses  # how the C code of littlefs is told
        if offset is None:
            self.ioctl(6, block)
            offset = 0
        writes += 1
        self.file.seek(block * BLOCK_SIZE + offset)
        if writes == self.cut_at_write:
            self.file.write(memoryview(buf)[: len(buf) // 2])
            control.power_lost()
        self.file.write(buf)

    def ioctl(self, op, arg):
        global erases
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK_SIZE
        if op == 6:
            if self.refuses:
                return -self.refuses
            erases += 1
            self.file.seek(arg * BLOCK_SIZE)
            self.file.write(_ERASED)
            return 0
        return 0


def mount(path):
    """Mount the image as the only file system, at "/"; a blank or broken one is formatted."""
    device = Flash(path)

    def cut_at_write(fields):
        """Command: cut the power in the middle of the n-th write from now; 0: not any more."""
        n = fields.get("n", 0)
        device.cut_at_write = writes + n if n else 0
        return {"writes": writes}

    def refuse_writes(fields):
        """Command: writes and erases fail with `errno`, 0: not any more. Ends with the power."""
        number = fields.get("errno", 0)
        if number not in (0, errno.EIO, ENOSPC):
            raise ValueError("errno: must be 0, 5 (EIO) or 28 (ENOSPC), not " + str(number))
        device.refuses = number
        return {}

    control.on("cut_at_write", cut_at_write)
    control.on("refuse_writes", refuse_writes)
    try:
        fs = vfs.VfsLfs2(device)
    except OSError:
        vfs.VfsLfs2.mkfs(device)
        fs = vfs.VfsLfs2(device)
    vfs.umount("/")
    vfs.mount(fs, "/")
    return device
