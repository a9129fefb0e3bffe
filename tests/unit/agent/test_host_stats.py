import os
import shutil
import time
from pathlib import Path

import pytest

from agent import host_stats


def test_a_machine_has_its_processors_memory_and_the_disk_that_was_asked_for(tmp_path: Path) -> None:
    found = host_stats.read(tmp_path)
    assert len(found.cpus) == os.cpu_count()
    for cpu in found.cpus:
        assert cpu.total_s >= cpu.user_s + cpu.system_s + cpu.idle_s > 0
    assert found.memory_total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < found.memory_available_bytes < found.memory_total_bytes
    assert found.alloc_dir.size_bytes == shutil.disk_usage(tmp_path).total
    assert tmp_path.is_relative_to(found.alloc_dir.mountpoint)
    assert 0 < found.uptime_s <= time.clock_gettime(time.CLOCK_BOOTTIME) + 2


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        host_stats.read(tmp_path / "none")
