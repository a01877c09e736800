"""Shows a tower what lies in a region of interest, and nothing of what lies around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Size
from .areas import Area
from .items import Item, describe
from .unreadable import UnreadableError

if TYPE_CHECKING:
    from PIL import Image

BLANK = (122, 116, 104)  # red, green, blue: the mean that CLIP's towers subtract
KEPT = 2  # masks, which take a byte for each pixel of an image


@dataclass(frozen=True)
class Within:
    """An image of which only an area is shown.

    A token tells of its surroundings, too: a hand beside a part changes the tokens of the part. So
    what is outside has one colour, whatever is there.

    Attributes:
        item: A path, array or Pillow image.
        area: Gives the area, when the image is read.
    """

    item: Item
    area: Callable[[], Area]

    def shown(self, image: Image.Image) -> tuple[Image.Image, Area]:
        """The decoded image, blank outside of the area, and that area.

        Raises:
            UnreadableError: If it has no mask, or one that does not fit it.
        """
        from PIL import Image  # listing models does not need it

        area = self.area()
        try:
            stencil = _stencil(area, (image.height, image.width))
        except ValueError as error:
            raise UnreadableError(f"{describe(self.item)}: {error}") from error
        blank = Image.new("RGB", image.size, BLANK)
        blank.paste(image, mask=stencil)
        return blank, area


@lru_cache(maxsize=KEPT)
def _stencil(area: Area, size: Size) -> Image.Image:
    """White inside of an area, black outside."""
    from PIL import Image

    return Image.fromarray(area.over(size).view(np.uint8) * np.uint8(255))
