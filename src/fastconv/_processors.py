"""How many processors this process may use: its affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import os

__all__ = ["affinity", "quota"]


def affinity() -> int:
    """Processors that the calling thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int | None:
    """Processors whose time the control groups grant, rounded up; None where they set no bound.

    A group is bound by every group above it, so the least share counts. Inside a container the kernel may
    name a group that isn't mounted; the root then stands for it, as it does where there is no `membership`.
    """
    try:
        groups = _text(membership).splitlines()
    except OSError:
        groups = []
    version_2, version_1 = "/", "/"
    for line in groups:  # number:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            version_2 = path
        elif "cpu" in controllers.split(","):
            version_1 = path
    shares = [
        *(_share_version_2(f"{root}{above}") for above in _upwards(version_2)),
        *(_share_version_1(f"{root}/cpu{above}") for above in _upwards(version_1)),
    ]
    return min((share for share in shares if share is not None), default=None)


def _upwards(path: str) -> list[str]:
    """ "/a/b" -> "/a/b", "/a", "" """
    names = [name for name in path.split("/") if name and name != ".."]
    return ["".join(f"/{name}" for name in names[:count]) for count in range(len(names), -1, -1)]


def _share_version_2(group: str) -> int | None:
    try:
        return _share(*_text(f"{group}/cpu.max").split())  # "max 100000" or microseconds of each period
    except (OSError, TypeError):
        return None


def _share_version_1(group: str) -> int | None:
    try:
        return _share(_text(f"{group}/cpu.cfs_quota_us"), _text(f"{group}/cpu.cfs_period_us"))
    except OSError:
        return None


def _share(granted: str, period: str) -> int | None:
    """Whole processors, rounded up; None for "max" (version 2) and -1 (version 1)."""
    try:
        share = -(-int(granted) // int(period))
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # pathlib would be a quarter of what `import fastconv` takes
        return file.read()
