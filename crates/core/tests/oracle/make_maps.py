"""Writes maps/*.tiff: one anomaly map, stored in the ways that other tools store 32-bit floats.

    "$VENV"/bin/pip install numpy tifffile pillow
    "$VENV"/bin/python make_maps.py

The score at row r, column c of 37x21 pixels is r / 8 - c / 16, which a float holds exactly.
"""

import pathlib

import numpy as np
import tifffile
from PIL import Image


def main():
    folder = pathlib.Path(__file__).with_name("maps")
    folder.mkdir(exist_ok=True)
    rows, columns = np.mgrid[0:21, 0:37]
    scores = (rows / 8 - columns / 16).astype(np.float32)
    write = lambda name, **options: tifffile.imwrite(folder / name, scores, metadata=None, **options)
    write("stripes.tiff", rowsperstrip=4)
    write("tiles.tiff", tile=(16, 16))
    write("tiles_deflate.tiff", tile=(16, 16), compression="zlib")
    write("big_endian.tiff", byteorder=">")
    write("bigtiff.tiff", bigtiff=True)
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        Image.fromarray(scores).save(folder / f"pillow_{name}.tif", compression=name)


if __name__ == "__main__":
    main()
