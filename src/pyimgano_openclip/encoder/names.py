"""What the names of models tell, without importing anything."""

from __future__ import annotations

BUNDLED, LOCAL_DIR, HUB = "bundled", "local-dir:", "hf-hub:"


def brings_weights(model: str) -> bool:
    """Whether a model's name tells its weights as well."""
    return model == BUNDLED or model.startswith((LOCAL_DIR, HUB))
