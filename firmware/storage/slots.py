"""A small document that is replaced as a whole: two files take turns, each numbered and CRC'd.

    kept = Slots("/keep", "config")
    kept.read()           # the dict that was written last, None if there never was one
    kept.write({"a": 1})  # on flash on return; StorageError: the one before still counts

Invariant: a power cut or a failed write leaves what was there before. For what is not a record:
copies of the configuration, keys, link settings. docs/SPEC.md section 5.7 gives every byte.
Tests: host_tests/unit/test_slots.py.
"""

import json
import os
import struct
from binascii import crc32

from firmware.core.shim import const
from firmware.storage.errors import StorageError, fault, sync

DOCUMENT_MAX = const(8192)

_VERSION = const(1)
_HEAD = "<BBBBII"  # 'B', 'J', 'S', version, number, length of the document
_HEAD_BYTES = const(12)
_EEXIST = const(17)


class Slots:
    """The document `name` in a folder, which is made if it is missing. Holds nothing in memory."""

    def __init__(self, folder, name):
        self._folder = folder
        self._name = name

    def _path(self, slot):
        return "%s/%s-%s" % (self._folder, self._name, "ab"[slot])

    def read(self):
        """The document that was written last as a dict; None if there is no sound one."""
        return self._newest()[2]

    def write(self, document):
        """Puts a dict in the place of the document. On flash on return.

        Raises StorageError, also for a document above 8,192 bytes of JSON; then the one before
        still counts.
        """
        raw = json.dumps(document).encode()
        if len(raw) > DOCUMENT_MAX:
            raise StorageError("%s: above %d bytes: write" % (self._name, DOCUMENT_MAX), 0)
        number, slot, _ = self._newest()
        head = struct.pack(_HEAD, 0x42, 0x4A, 0x53, _VERSION, number + 1, len(raw))
        try:
            try:
                os.mkdir(self._folder)
            except OSError as error:
                if error.errno != _EEXIST:
                    raise
            with open(self._path(1 - slot), "wb") as file:
                file.write(head)
                file.write(raw)
                file.write(struct.pack("<I", crc32(raw, crc32(head))))
                sync(file)
        except OSError as error:
            raise fault("write of " + self._name, error)

    def _newest(self):
        """(number, slot, document) of the sound file with the highest number."""
        found = (0, 1, None)
        for slot in (0, 1):
            number, document = self._read(slot)
            if number > found[0]:
                found = (number, slot, document)
        return found

    def _read(self, slot):
        """(number, document) of a slot; (0, None) if it is not sound."""
        try:
            with open(self._path(slot), "rb") as file:
                raw = file.read(_HEAD_BYTES)
                if len(raw) < _HEAD_BYTES:
                    return 0, None
                head = struct.unpack(_HEAD, raw)
                if head[:4] != (0x42, 0x4A, 0x53, _VERSION) or head[5] > DOCUMENT_MAX:
                    return 0, None
                document = file.read(head[5])
                crc = file.read(5)
        except OSError:  # not there or not readable: the other one counts
            return 0, None
        if crc != struct.pack("<I", crc32(document, crc32(raw))):
            return 0, None
        try:
            document = json.loads(document)
        except ValueError:
            return 0, None
        return (head[4], document) if isinstance(document, dict) else (0, None)
