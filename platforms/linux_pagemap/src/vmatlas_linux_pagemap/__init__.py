"""The pages of Linux: what lies inside regions, by the PAGEMAP_SCAN ioctl or by /proc/PID/pagemap."""

from vmatlas_linux_pagemap.backend import PAGEMAP, SCAN

__all__ = ["PAGEMAP", "SCAN"]
