"""Small sound image files of every format that cameras and programs write."""

import io

import numpy as np
from PIL import Image, features


def _pixels() -> np.ndarray:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((36, 24), Image.Resampling.BICUBIC))


COLOUR = Image.fromarray(_pixels())
GREY = COLOUR.convert("L")
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)
UNIT = Image.fromarray(np.asarray(GREY).astype(np.float32) / 255)
CLEAR = Image.merge("RGBA", (*COLOUR.split(), GREY))


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010F] = "a camera"
    return exif


def picture_files() -> dict[str, bytes]:
    """The bytes of a file by name; the suffix is the format's."""
    pages = {"save_all": True, "append_images": (COLOUR.rotate(180),)}
    wanted = {
        "colour.png": (COLOUR, {}),
        "deep.png": (DEEP, {}),
        "palette.png": (CLEAR.convert("P"), {"transparency": 3}),
        "bilevel.png": (GREY.convert("1"), {}),
        "clear.png": (CLEAR, {"exif": _exif()}),
        "grey and clear.png": (CLEAR.convert("LA"), {"dpi": (300, 300)}),
        "moving.png": (COLOUR, pages),
        "turned.jpg": (COLOUR, {"exif": _exif()}),
        "grey.jpg": (GREY, {}),
        "progressive.jpg": (COLOUR, {"progressive": True, "dpi": (72, 72)}),
        "print.jpg": (COLOUR.convert("CMYK"), {}),
        "several.mpo": (COLOUR, pages),
        "colour.tif": (COLOUR, {"exif": _exif()}),
        "deep.tif": (DEEP, {}),
        "unit.tif": (UNIT, {}),
        "print.tif": (COLOUR.convert("CMYK"), {}),
        "pages.tif": (COLOUR, pages),
        "shortened.tif": (COLOUR, {"compression": "tiff_lzw"}),
        "deflated.tif": (DEEP, {"compression": "tiff_adobe_deflate"}),
        "jpeg.tif": (COLOUR, {"compression": "jpeg"}),
        "fax.tif": (GREY.convert("1"), {"compression": "group4"}),
        "packed.tif": (COLOUR.quantize(16), {"compression": "packbits"}),
        "big.tif": (COLOUR, {"big_tiff": True}),
        "colour.bmp": (COLOUR, {}),
        "palette.bmp": (COLOUR.quantize(200), {}),
        "bilevel.bmp": (GREY.convert("1"), {}),
        "clear.bmp": (CLEAR, {}),
        "palette.gif": (COLOUR.quantize(64), {}),
        "moving.gif": (CLEAR.quantize(32), {"save_all": True, "append_images": (GREY,)}),
        "lossy.webp": (COLOUR, {"exif": _exif()}),
        "lossless.webp": (CLEAR, {"lossless": True}),
        "moving.webp": (COLOUR, pages),
        "colour.ppm": (COLOUR, {}),
        "deep.pgm": (DEEP, {}),
    }
    if features.check("jpg_2000"):
        wanted["colour.jp2"] = (COLOUR, {})
        wanted["deep.jp2"] = (DEEP, {})
    if features.check("avif"):
        wanted["colour.avif"] = (COLOUR, {"exif": _exif()})
    return {name: _saved(*how, name) for name, how in wanted.items()}


def _saved(image: Image.Image, options: dict, name: str) -> bytes:
    buffer = io.BytesIO()
    suffix = f".{name.split('.')[-1]}"
    # Pillow leaves traces of one format on an image, which disturb the next.
    if "append_images" in options:
        options = {**options, "append_images": [more.copy() for more in options["append_images"]]}
    image.copy().save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()
