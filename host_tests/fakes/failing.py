"""A power failure inside a write of the journal or of NVS, on the files of the host."""

import os


class PowerCut(BaseException):
    """Nothing of the firmware catches it."""


class FailingWrites:
    """Stands for `storage.errors._fsync` and an NVS's `commit`; the power fails inside one of them.

    Of the bytes that were not on flash yet a share stays, the beginning of them.
    """

    def __init__(self):
        self._left = 0  # writes until it fails, 0: it does not
        self._percent = 0
        self._synced = {}  # bytes of each file by its inode

    def fail(self, writes, percent):
        """The power fails inside the `writes`-th write from now, when so much of it is done."""
        self._left = writes
        self._percent = percent

    def _fails(self):
        if not self._left:
            return False
        self._left -= 1
        return not self._left

    def fsync(self, descriptor):
        status = os.fstat(descriptor)
        size = status.st_size
        if self._fails():
            before = min(size, self._synced.get(status.st_ino, 0))
            os.ftruncate(descriptor, before + (size - before) * self._percent // 100)
            raise PowerCut
        self._synced[status.st_ino] = size

    def watch(self, nvs):
        """Has the power fail inside the commits of an NVS of fakes.bench, too."""
        commit = nvs.commit

        def failing():
            if self._fails():
                if self._percent == 100:
                    commit()
                nvs.forget()
                raise PowerCut
            commit()

        nvs.commit = failing
