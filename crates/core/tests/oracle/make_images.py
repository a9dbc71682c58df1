"""Writes images/*: one small picture, stored in the ways that cameras and other programs store images, and images.json.

    "$VENV"/bin/pip install numpy tifffile imagecodecs pillow
    "$VENV"/bin/python make_images.py

Grey at row r, column c of 13x9 pixels is (13 r + c) * top // 116, where top is the largest number of the depth. Colours are grey,
top - grey, and grey // 2. What a lossy file or a palette holds is in images.json, as Pillow decodes it.
"""

import json
import pathlib
import struct

import numpy as np
import tifffile
from PIL import Image

WIDTH, HEIGHT = 13, 9
rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]


def grey(bits):
    return (rows * WIDTH + columns) * (2**bits - 1) // 116


def colour(bits):
    values = grey(bits)
    return np.dstack([values, 2**bits - 1 - values, values // 2])


def packed(values, bits, order="<", big=False, strips=1):
    """A TIFF of values of so many bits, the highest bit first; tifffile writes none."""
    samples = 3 if values.ndim == 3 else 1
    flat = values.reshape(HEIGHT, -1)
    lines = np.packbits((flat[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(HEIGHT, -1), axis=1)
    height = -(-HEIGHT // strips)
    data = [lines[at : at + height].tobytes() for at in range(0, HEIGHT, height)]
    start = 16 if big else 8
    body, extra = b"".join(data), b""
    offsets = [start + sum(map(len, data[:at])) for at in range(len(data))]
    entries = b""
    fields = [(256, 4, [WIDTH]), (257, 4, [HEIGHT]), (258, 3, [bits] * samples), (259, 3, [1]), (262, 3, [2 if samples == 3 else 1])]
    fields += [(273, 4, offsets), (277, 3, [samples]), (278, 4, [height]), (279, 4, [len(part) for part in data])]
    for tag, kind, numbers in fields:
        value = struct.pack(order + {3: "H", 4: "I"}[kind] * len(numbers), *numbers)
        if len(value) > (8 if big else 4):
            extra, value = extra + value, struct.pack(order + ("Q" if big else "I"), start + len(body) + len(extra))
        entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(numbers)) + value.ljust(8 if big else 4, b"\0")
    directory = start + len(body) + len(extra)
    mark = b"II" if order == "<" else b"MM"
    header = struct.pack(order + "HHHQ", 43, 8, 0, directory) if big else struct.pack(order + "HI", 42, directory)
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    return mark + header + body + extra + count + entries + b"\0" * (8 if big else 4)


def main():
    folder = pathlib.Path(__file__).with_name("images")
    folder.mkdir(exist_ok=True)
    g8, g16, g32 = grey(8).astype(np.uint8), grey(16).astype(np.uint16), grey(32).astype(np.uint32)
    c8, c16 = colour(8).astype(np.uint8), colour(16).astype(np.uint16)
    unit = (grey(8) / 255).astype(np.float32)

    def tiff(name, values, photometric="minisblack", **options):
        tifffile.imwrite(folder / f"{name}.tif", values, photometric=photometric, metadata=None, software=None, **options)

    tiff("rgb_8_bigtiff", c8, "rgb", bigtiff=True, rowsperstrip=4)
    tiff("rgb_8_bigtiff_big_endian", c8, "rgb", bigtiff=True, byteorder=">", rowsperstrip=4)
    tiff("grey_16_big_endian", g16, byteorder=">")
    tiff("rgb_16_predictor", c16, "rgb", compression="zlib", predictor="horizontal", rowsperstrip=4)
    tiff("rgb_8_lzw_tiles", c8, "rgb", compression="lzw", tile=(16, 16))
    tiff("rgb_8_packbits", c8, "rgb", compression="packbits")
    tiff("rgb_8_planes", np.moveaxis(c8, -1, 0), "rgb", planarconfig="separate", rowsperstrip=4)
    tiff("rgb_8_planes_tiles", np.moveaxis(c8, -1, 0), "rgb", planarconfig="separate", compression="zlib", tile=(16, 16))
    tiff("rgb_8_alpha", np.dstack([c8, g8]), "rgb", extrasamples=["unassalpha"])
    tiff("rgb_8_rest", np.dstack([c8, g8]), "rgb", extrasamples=["unspecified"], compression="zlib", predictor="horizontal")
    tiff("grey_8_alpha", np.dstack([g8, 255 - g8]), extrasamples=["unassalpha"], planarconfig="contig")
    tiff("grey_8_white_is_zero", 255 - g8, "miniswhite")
    tiff("grey_16_white_is_zero", 65535 - g16, "miniswhite", compression="zlib")
    tiff("grey_32", g32)
    tiff("grey_float", unit)
    tiff("grey_float_predictor", unit, compression="zlib", predictor="floatingpoint", tile=(16, 16))
    tiff("grey_float_64", unit.astype(np.float64))
    tiff("grey_float_16", unit.astype(np.float16))
    tiff("rgb_float", (colour(8) / 255).astype(np.float32), "rgb")
    Image.fromarray(g8 > 127).save(folder / "fax.tif", compression="group4")
    for bits in (1, 4, 10, 12):
        (folder / f"grey_{bits}_packed.tif").write_bytes(packed(grey(bits), bits, strips=2))
    (folder / "grey_12_packed_bigtiff.tif").write_bytes(packed(grey(12), 12, ">", big=True))
    (folder / "rgb_12_packed.tif").write_bytes(packed(colour(12), 12, ">"))
    with tifffile.TiffWriter(folder / "rgb_8_with_thumbnail.tif") as file:
        file.write(c8[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        file.write(c8, photometric="rgb", metadata=None)
        file.write(g8 > 127, photometric="minisblack", subfiletype=4, metadata=None)
    for top in (4095, 255, 1000):
        values = (grey(16) * top // 65535) if top == 1000 else grey(top.bit_length())
        header = f"P5\n# a comment\n{WIDTH} {HEIGHT}\n{top}\n".encode()
        (folder / f"grey_{top}.pgm").write_bytes(header + values.astype(">u2" if top > 255 else "u1").tobytes())
    Image.fromarray(c8).save(folder / "rgb_8.ppm")
    (folder / "grey_12_text.pgm").write_text(f"P2\n{WIDTH} {HEIGHT}\n4095\n" + " ".join(map(str, grey(12).ravel())) + "\n")

    lossy = Image.fromarray(c8)
    lossy.save(folder / "baseline.jpg", quality=90, subsampling=2)
    lossy.save(folder / "progressive.jpg", quality=90, subsampling=2, progressive=True)
    lossy.save(folder / "restarts.jpg", quality=90, subsampling=0, restart_marker_blocks=1)
    lossy.save(folder / "progressive_restarts.jpg", quality=90, subsampling=1, progressive=True, restart_marker_rows=1)
    Image.fromarray(g8).save(folder / "luminance.jpg", quality=90)
    lossy.save(folder / "jpeg_rgb.tif", compression="jpeg", quality=90)
    lossy.convert("YCbCr").save(folder / "jpeg_ycbcr.tif", compression="jpeg", quality=90)
    tiff("jpeg_tiles", c8, "rgb", compression="jpeg", subsampling=(2, 2), tile=(16, 16))
    lossy.quantize(16).save(folder / "palette.tif", compression="tiff_lzw")
    lossy.convert("CMYK").save(folder / "cmyk.tif")
    names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(("grey_", "rgb_"))]
    decoded = {path.name: np.asarray(Image.open(path).convert("RGB")).ravel().tolist() for path in names}
    pathlib.Path(__file__).with_name("images.json").write_text(json.dumps(decoded, separators=(",", ":")) + "\n")

    refused = folder.with_name("refused_images")
    refused.mkdir(exist_ok=True)
    for name in ("zstd", "lzma"):
        tifffile.imwrite(refused / f"{name}.tif", g8, compression=name, metadata=None)
    tifffile.imwrite(refused / "pages.tif", np.stack([g8] * 4), photometric="minisblack", metadata=None)
    tifffile.imwrite(refused / "signed.tif", g8.astype(np.int16), metadata=None)
    tifffile.imwrite(refused / "bands.tif", np.dstack([g8] * 4), photometric="minisblack", planarconfig="contig", metadata=None)
    lossy.save(refused / "animation.gif")


if __name__ == "__main__":
    main()
