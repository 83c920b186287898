#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Reads a tarball, not compressed, and writes it for "git fast-import --done" as one
# commit of the branch "import", without the directory that it begins with.

import sys
import tarfile

out = sys.stdout.buffer


def put(*parts):
    for part in parts:
        out.write(part if isinstance(part, bytes)
                  else part.encode("utf-8", "surrogateescape"))


def quoted(name):
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def inside(name):
    return name.partition("/")[2]


# Debian ignores every file, for its own packaging; that would hide the work of those
# who use the tree.
def without_debian(lines):
    return b"".join(line for line in lines if line not in (b"/*\n", b"!/debian/\n"))


def files(tar):
    for member in tar:
        name = inside(member.name)
        if ".git" in name.split("/"):
            continue
        if member.issym():
            yield name, "120000", member.linkname.encode("utf-8", "surrogateescape")
        elif member.islnk():
            put("C ", quoted(inside(member.linkname)), " ", quoted(name), "\n")
        elif member.isfile():
            file = tar.extractfile(member)
            data = without_debian(file) if name == ".gitignore" else file.read()
            yield name, "100755" if member.mode & 0o100 else "100644", data


put("commit refs/heads/import\ncommitter vfio-tph <vfio-tph@localhost> 0 +0000\ndata 0\n")
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|", encoding="utf-8") as tar:
    for name, mode, data in files(tar):
        put("M %s inline " % mode, quoted(name), "\ndata %d\n" % len(data), data, "\n")
# What is behind the end is for who writes it
while sys.stdin.buffer.read(1 << 20):
    pass
put("done\n")
