"""Linux: what its backends share. Names of regions, /proc/PID/stat, processes of this machine."""

from vmatlas.systems.linux.host import LINUX, LinuxProcess, LinuxSystem
from vmatlas.systems.linux.naming import tell
from vmatlas.systems.linux.stat import Stat, judge_empty_map, parse_stat

__all__ = ["LINUX", "LinuxProcess", "LinuxSystem", "Stat", "judge_empty_map", "parse_stat", "tell"]
