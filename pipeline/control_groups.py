"""What a container or a job may use of its machine: the limits of its control groups, which its list of cores does not show."""

from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Control groups of all processes, and the names of this one's."""


def quota() -> float:
    """Cores' time that is granted: microseconds of processor time in each period of so many; 0 without a limit."""
    quotas = []
    for folder in _group_folders("cpu"):
        texts = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        if len(texts) == 2 and texts[0].isdigit():  # not "max", nor -1
            quotas.append(int(texts[0]) / int(texts[1]))
    return min(quotas, default=0.0)


def memory_limits() -> list[int]:
    """Bytes that this process's groups may have, each; empty without a limit."""
    limits = []
    for folder in _group_folders("memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        limits += [int(word) for word in words if word.isdigit()]  # not "max"
    return limits


def _group_folders(controller: str) -> Iterator[Path]:
    """This process's control group and all around it, whose limits hold, too: of version 2, and of version 1's controller.

    Inside a container its own group may be the root, whatever name the machine outside gives it: then only the root is there.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    names = {controllers: name for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") > 1)}
    version1 = next((name for controllers, name in names.items() if controller in controllers.split(",")), "/")
    for root, name in ((GROUPS, names.get("", "/")), (GROUPS / controller, version1)):
        own = root / name.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
