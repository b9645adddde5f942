"""A NOR flash in RAM that writes down what is done to it, and what a power cut can leave of that.

`Flash` is the block device under littlefs. A program can only clear bits, an erase sets a block to
0xff. Its log is a list of tuples, oldest first:

    (PROG, address, bytes)   (ERASE, address)   (SYNC,)
    (NVS, dict)      one more key of NVS is written: all of them
    (IMAGE, bytes)   somebody put another content into the flash
    (MARK, ...)      what the world sees

Cutting needs no second run: the image at any entry of the log is rebuilt from an older one.

What a cut can leave (`Replay.variants`) stands on these rules:
  - Power can fail before an operation, or inside it: then any part of it is done. A cell that was
    being programmed or erased may read as anything between old and new.
  - Between two syncs littlefs lets writes to different blocks reach the flash in any order (its
    emulated block device calls that LFS_EMUBD_POWERLOSS_OOO). MicroPython 1.25 has littlefs 2.8,
    which relies on one order more: a commit of metadata follows the data that it names. The last
    run of writes to one block before a sync is that commit, so what comes before it is unordered.
"""

from binascii import crc32

import vfs

BLOCK_BYTES = 4096

PROG = 0
ERASE = 1
SYNC = 2
NVS = 3
MARK = 4
IMAGE = 5

_ERASED = b"\xff" * BLOCK_BYTES


class Flash:
    """Block device with the extended interface (reads and writes inside a block)."""

    def __init__(self, image, log):
        self.image = image
        self.log = log
        self.dead = False  # files that a cut left open write once more when they are collected

    def readblocks(self, block, buffer, offset=0):
        start = block * BLOCK_BYTES + offset
        buffer[:] = memoryview(self.image)[start : start + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        if not self.dead:
            entry = (PROG, block * BLOCK_BYTES + offset, bytes(buffer))
            self.log.append(entry)
            apply(self.image, entry)

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.image) // BLOCK_BYTES
        if operation == 5:
            return BLOCK_BYTES
        if self.dead:
            return 0
        if operation == 3:
            self.log.append((SYNC,))
        elif operation == 6:
            entry = (ERASE, argument * BLOCK_BYTES)
            self.log.append(entry)
            apply(self.image, entry)
        return 0


def mount(flash, folder):
    """Mounts littlefs. OSError if it finds nothing that it can mount.

    It writes no times beside its files: they were this machine's, and the place where littlefs
    looks for a free block follows from them, so that no run would be like another."""
    vfs.mount(vfs.VfsLfs2(flash, mtime=False), folder)


def checksum(log, value=0):
    """CRC-32 of everything that a log programs, going on from `value`."""
    for entry in log:
        if entry[0] == PROG:
            value = crc32(entry[2], crc32(entry[1].to_bytes(4, "little"), value))
    return value


def apply(image, entry):
    """Does an operation to the image; entries of other kinds change nothing."""
    if entry[0] == PROG:
        program(image, entry[1], entry[2])
    elif entry[0] == ERASE:
        start = entry[1]
        image[start : start + BLOCK_BYTES] = _ERASED
    elif entry[0] == IMAGE:
        image[:] = entry[1]


def program(image, start, data):
    """A program can only clear bits."""
    end = start + len(data)
    if image[start:end] == _ERASED[: len(data)]:
        image[start:end] = data
    else:
        for i in range(len(data)):
            image[start + i] &= data[i]


class Draw:
    """Numbers that look random and are the same in every process."""

    def __init__(self, seed):
        self._state = (seed * 2654435761 + 12345) & 0x3FFFFFFF

    def below(self, limit):
        """An integer from 0 to limit - 1."""
        self._state = (self._state * 1103515245 + 12345) & 0x3FFFFFFF
        return (self._state >> 8) % limit


class Replay:
    """Goes along a log and holds the image before its next entry."""

    def __init__(self, image, log):
        self.image = bytearray(image)
        self.at = 0
        self._log = log
        self._cut = bytearray(image)
        self._synced = bytearray(image)  # as it was at the last sync
        self._group = 0  # the first entry behind it
        self._commit = 0  # where the commit of metadata of this group begins
        self._next_sync = -1

    def step(self):
        """Goes on by one entry and returns it."""
        entry = self._log[self.at]
        apply(self.image, entry)
        self.at += 1
        if entry[0] in (SYNC, IMAGE):
            self._synced[:] = self.image
            self._group = self.at
        return entry

    def variants(self):
        """Names of what a cut at the next entry can leave; `cut` makes it."""
        kind = self._log[self.at][0]
        names = ["before"]
        if kind == PROG:
            names += ("torn-1", "torn-half", "torn-last", "smeared")
        elif kind == ERASE:
            names += ("torn-half", "smeared", "garbage")
        if len(self._unordered()) > 1:
            names += ("lost-first", "last-only")
        return names

    def in_commit(self):
        """True if the next entry belongs to a commit of metadata."""
        return self.at >= self._commit_begins()

    def cut(self, variant):
        """The image that a cut at the next entry leaves. One buffer: it is gone with the next."""
        image = self._cut
        image[:] = self._synced if variant == "last-only" else self.image
        entry = self._log[self.at]
        if variant == "lost-first":
            self._put_block(image, self._synced, self._unordered()[0])
        elif variant == "last-only":
            self._put_block(image, self.image, self._unordered()[-1])
        elif variant != "before":
            (_tear_program if entry[0] == PROG else _tear_erase)(image, entry, variant, self.at)
        return image

    def is_new(self, variant):
        """False if this cut leaves what a cut before or behind the entry leaves as well."""
        if variant == "before":
            return True
        image = self.cut(variant)
        if image == self.image:
            return False
        entry = self._log[self.at]
        if entry[0] == PROG:
            whole = self.image[entry[1] : entry[1] + len(entry[2])]
            apply(self.image, entry)
            new = image != self.image
            self.image[entry[1] : entry[1] + len(whole)] = whole
            return new
        return True

    def _commit_begins(self):
        log = self._log
        if self._next_sync < self.at:
            sync = self.at
            while sync < len(log) and log[sync][0] not in (SYNC, IMAGE):
                sync += 1
            self._next_sync = self._commit = sync
            block = None
            for place in range(sync - 1, self._group - 1, -1):
                if log[place][0] in (PROG, ERASE):
                    its_block = log[place][1] // BLOCK_BYTES
                    if block is not None and its_block != block:
                        break
                    block = its_block
                    self._commit = place
        return self._commit

    def _unordered(self):
        """Blocks written since the sync, in order, if nothing orders them yet."""
        blocks = []
        if self.at <= self._commit_begins():
            for place in range(self._group, self.at):
                if self._log[place][0] in (PROG, ERASE):
                    block = self._log[place][1] // BLOCK_BYTES
                    if block not in blocks:
                        blocks.append(block)
        return blocks

    def _put_block(self, image, source, block):
        start = block * BLOCK_BYTES
        image[start : start + BLOCK_BYTES] = memoryview(source)[start : start + BLOCK_BYTES]


def _tear_program(image, entry, variant, seed):
    start, data = entry[1:]
    size = len(data)
    half = size // 2
    done = {"torn-1": 1, "torn-last": size - 1}.get(variant, half)
    program(image, start, data[:done])
    if variant == "smeared":
        # The cells of the second half were on their way: some bits are through.
        draw = Draw(seed)
        program(image, start + half, bytes(b | draw.below(256) for b in data[half:]))


def _tear_erase(image, entry, variant, seed):
    start = entry[1]
    draw = Draw(seed)
    if variant == "torn-half":
        half = BLOCK_BYTES // 2
        image[start : start + half] = _ERASED[:half]
    elif variant == "smeared":
        for i in range(0, BLOCK_BYTES, 7):
            image[start + i] |= draw.below(256)
    else:
        noise = bytes(draw.below(256) for _ in range(32))
        image[start : start + BLOCK_BYTES] = noise * (BLOCK_BYTES // 32)
