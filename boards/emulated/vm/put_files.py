# One-off run: `micropython put_files.py IMAGE STAGING` brings the image's files up to STAGING
# (made by boards/emulated/flashing.py). Prints one line if something was written.
import json
import os
import sys

import vfs

image, staging = sys.argv[1:3]


class Image:
    def __init__(self, path):
        self.file = open(path, "r+b")

    def readblocks(self, block, buf, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.readinto(buf)

    def writeblocks(self, block, buf, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.write(buf)

    def ioctl(self, op, arg):
        if op == 4:
            return 512
        if op == 5:
            return 4096
        if op == 6:
            self.file.seek(arg * 4096)
            self.file.write(b"\xff" * 4096)
        return 0


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def make_parents(path):
    i = path.find("/", len("/flash/"))
    while i > 0:
        try:
            os.mkdir(path[:i])
        except OSError:
            pass  # it is there
        i = path.find("/", i + 1)


def remove_parents(path):
    # An empty folder would be imported instead of the package of this name in the ROM partition.
    i = path.rfind("/")
    while i > len("/flash/"):
        try:
            os.rmdir(path[:i])
        except OSError:
            return  # not empty
        i = path.rfind("/", 0, i)


device = Image(image)
try:
    fs = vfs.VfsLfs2(device)
except OSError:
    vfs.VfsLfs2.mkfs(device)
    fs = vfs.VfsLfs2(device)
vfs.mount(fs, "/flash")

new = json.loads(read(staging + "/manifest"))
try:
    old = json.loads(read("/flash/.firmware.json") or "{}")
except ValueError:
    old = {}
written = removed = 0
if old.get("digest") != new["digest"]:
    old_files = old.get("files", {})
    if old:
        os.remove("/flash/.firmware.json")
    for path in old_files:
        if path not in new["files"] and read("/flash/" + path) is not None:
            os.remove("/flash/" + path)
            remove_parents("/flash/" + path)
            removed += 1
    for path in sorted(new["files"]):
        target = "/flash/" + path
        data = read(staging + "/files/" + path)
        if read(target) != data:
            make_parents(target)
            with open(target, "wb") as file:
                file.write(data)
            written += 1
    with open("/flash/.firmware.json", "wb") as file:
        file.write(json.dumps(new))
config = read(staging + "/config")
put_config = config is not None and read("/flash/config.json") is None
if put_config:
    with open("/flash/config.json", "wb") as file:
        file.write(config)
if old.get("digest") != new["digest"]:
    print("firmware %s: %d files written, %d removed" % (new["digest"][:12], written, removed))
elif put_config:
    print("config.json written")
vfs.umount("/flash")
