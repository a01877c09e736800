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

KEPT = 2  # masks, which take a byte for each pixel of an image


@dataclass(frozen=True)
class Within:
    """An image of which only an area is shown.

    A token tells of its surroundings, too: a hand beside a part changes the tokens of the part. So
    what is outside has the mean colour of what is inside, whatever is there. A dead frame stays
    one.

    Attributes:
        item: A path, array or Pillow image.
        area: Gives the area, when the image is read.
    """

    item: Item
    area: Callable[[], Area]

    def shown(self, image: Image.Image) -> tuple[Image.Image, Area]:
        """The decoded image, of one colour outside of the area, and that area.

        Raises:
            UnreadableError: If it has no mask, or one that does not fit it.
        """
        from PIL import Image, ImageStat  # listing models does not need them

        area = self.area()
        try:
            stencil = _stencil(area, (image.height, image.width))
        except ValueError as error:
            raise UnreadableError(f"{describe(self.item)}: {error}") from error
        mean = ImageStat.Stat(image, stencil).mean
        blank = Image.new("RGB", image.size, (round(mean[0]), round(mean[1]), round(mean[2])))
        blank.paste(image, mask=stencil)
        return blank, area


@lru_cache(maxsize=KEPT)
def _stencil(area: Area, size: Size) -> Image.Image:
    """White inside of an area, black outside."""
    from PIL import Image

    return Image.fromarray(area.over(size).view(np.uint8) * np.uint8(255))
