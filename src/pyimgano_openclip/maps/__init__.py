"""From patch scores to anomaly maps, image scores, regions and pictures."""

from .scores import anomaly_map

__all__ = ["anomaly_map"]
