"""Generated inspection images with exact defect masks, reproducible from a seed.

Surfaces and simple objects are rendered with NumPy and OpenCV under the light, blur and noise of an
inspection station. They need no download, and the bundled model was trained on such images.

```python
from pyimgano_openclip.samples import make_sample

good = [make_sample("leather", seed=i, size=(240, 320)).image for i in range(16)]
bad = make_sample("leather", seed=99, size=(240, 320), defect="scratch")
bad.image, bad.mask  # uint8 RGB (240, 320, 3) and bool (240, 320)
```

A family is a kind of product ("leather", "screw"). A `product` fixes its colour, scale and light;
the `seed` of an image varies position, grain and noise, as a camera over a belt would see it.
"""

from __future__ import annotations

from ..full_install import full_install

with full_install():  # OpenCV
    from .catalog import (
        DEFECTS,
        FAMILIES,
        HELD_OUT_DEFECTS,
        HELD_OUT_FAMILIES,
        OBJECTS,
        SURFACES,
        Sample,
        defects_of,
        make_pair,
        make_sample,
    )

__all__ = [
    "DEFECTS",
    "FAMILIES",
    "HELD_OUT_DEFECTS",
    "HELD_OUT_FAMILIES",
    "OBJECTS",
    "SURFACES",
    "Sample",
    "defects_of",
    "make_pair",
    "make_sample",
]
