"""Mounts the array, after looking hard whether this is a place that is ours to mount over.

It unmounts nothing that it has not mounted itself; the reaper has its own step for that.
"""

from __future__ import annotations

import array
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

GUARD = ".hospital-chaos"  # the file that marks a stack's folder as ours; see chaos/reaper
MOUNT_S = 5.0
TOOL = "fusermount3"


class MountRefused(RuntimeError):
    """The array cannot or must not be mounted there: says why and what to do."""


def check(backing: Path, mount: Path) -> None:
    """Refuse places that are not ours, not empty, or mounted already; MountRefused says which."""
    for place, word in ((backing, "the backing folder"), (mount, "the mount folder")):
        if str(place) in mounted():  # before any look at it: a hung array would hold us up
            raise MountRefused(
                f"{word} {place} is mounted already; unmount it first (fusermount3 -u {place})"
            )
        if place.is_symlink():
            raise MountRefused(f"{word} {place} is a link; name the folder itself")
        if not place.is_dir():
            raise MountRefused(f"{word} {place} is no folder; make it first")
        if not any((folder / GUARD).is_file() for folder in place.parents):
            raise MountRefused(
                f"{word} {place} lies in no folder that is marked as ours by a file {GUARD}; "
                "nothing was mounted"
            )
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise MountRefused(f"{word} {place} is not ours to read and write")
    if os.listdir(mount):
        raise MountRefused(f"the mount folder {mount} is not empty; what is in it would be hidden")
    if backing == mount or backing in mount.parents or mount in backing.parents:
        raise MountRefused(f"{backing} and {mount} lie inside each other; name two separate ones")


def mounted() -> set[str]:
    """Everything that is mounted, as this process sees it."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        place = line.split()[4]  # with \040 for a blank, and the like
        found.add(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place))
    return found


def missing() -> str:
    """Why nothing can be mounted on this machine, and how to get it; '' when it can."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse: load the kernel's fuse module, or pass the device in"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not ours to open: chmod 666 /dev/fuse, or join its group"
    if not (tool := shutil.which(TOOL)):
        return f"there is no {TOOL}: apt-get install fuse3"
    if os.geteuid() != 0 and not os.stat(tool).st_mode & 0o4000:
        return f"{tool} is not set-uid root, so that only root can mount: chmod u+s {tool}"
    return ""


def only_root() -> str:
    """Why users other than us, as in containers, cannot work on an array of ours; '' when they can.

    Root alone may let them in, and give each what he makes.
    """
    if os.geteuid() == 0:
        return ""
    return "only root lets containers onto an array: run as root, or without --runtime docker"


def sees_reads() -> bool:
    """Whether every read of a file comes to an array: Linux 6.6 and later; before, files must be
    kept in the kernel's cache so that they can be mapped into memory."""
    numbers = [int(word) for word in re.findall(r"\d+", os.uname().release)[:2]]
    return numbers >= [6, 6]


def mount(place: Path, name: str) -> int:
    """Mount by fusermount3 and return the open device; MountRefused with its own words."""
    if why := missing():
        raise MountRefused(f"cannot mount: {why}")
    options = f"fsname={name.replace(',', '_')},subtype=hospital-chaos,default_permissions"
    if os.geteuid() == 0:
        options += ",allow_other"  # services may run as other users
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        try:
            done = subprocess.run(
                [TOOL, "-o", options, "--", str(place)],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=(theirs.fileno(),), capture_output=True, timeout=MOUNT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MountRefused(f"cannot mount {place}: {error}") from error
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise MountRefused(f"cannot mount {place}: {said or 'fusermount3 failed'}")
        ours.settimeout(MOUNT_S)
        return _received(ours, place)


def _received(wire: socket.socket, place: Path) -> int:
    try:
        _, ancillary, _, _ = wire.recvmsg(1, socket.CMSG_SPACE(4))
    except OSError as error:
        raise MountRefused(f"cannot mount {place}: {TOOL} sent no device: {error}") from error
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[:4])
            os.set_inheritable(numbers[0], False)
            return numbers[0]
    raise MountRefused(f"cannot mount {place}: {TOOL} sent no device")


def unmount(place: Path) -> bool:
    """Unmount what nobody uses any more; False while somebody does."""
    done = subprocess.run(
        [TOOL, "-u", "-q", "--", str(place)], capture_output=True, timeout=MOUNT_S, check=False
    )
    return done.returncode == 0
