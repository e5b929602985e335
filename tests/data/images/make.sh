#!/bin/sh
# Makes the images here and expected.json with ImageMagick 6 and exiftool; run in this folder.
# expected.json: file -> [width, height, hexadecimal RGB]: the upper 8 of the 16 bits that ImageMagick gives, upright.
set -e
convert -size 8x6 -seed 3 plasma:red-blue -depth 8 +set date:create +set date:modify -strip base.png
for i in 1 2 3 4 5 6 7 8; do
  convert base.png -sampling-factor 4:4:4 -quality 92 turned$i.jpg
  exiftool -q -overwrite_original -n -Orientation=$i turned$i.jpg
done
convert base.png -strip -depth 8 -compress none turned7.tif
exiftool -q -overwrite_original -n -Orientation=7 turned7.tif
grey="base.png -colorspace gray -evaluate multiply 0.7077 -depth 16"
convert $grey -define png:exclude-chunks=all grey16.png
convert $grey grey16.tif
convert $grey -endian MSB grey16be.tif
convert $grey -define quantum:polarity=min-is-white grey16white0.tif
convert $grey grey16.pgm
convert base.png -colorspace gray -depth 12 grey12.tif
convert base.png -colorspace CMYK cmyk.jpg
convert base.png -colors 5 -alpha set -channel A -evaluate set 40% PNG8:palette.png
convert base.png -colorspace gray -alpha set -channel A -evaluate set 40% -depth 16 grey16alpha.png
convert base.png -monochrome bits.png
convert base.png -colorspace gray -depth 32 -define quantum:format=floating-point refused-float.tif
convert base.png -colorspace gray -depth 32 refused-32.tif
convert base.png -colorspace Lab refused-lab.tif
convert base.png -colorspace gray -alpha set -depth 16 -strip refused-kind.tif
convert -size 1x1 -depth 8 xc:black xc:white -colorspace gray refused-pages.tif
rm base.png
python3 - <<'END'
import glob, json, subprocess
expected = {}
for name in sorted(set(glob.glob("*.*")) - {"make.sh", "expected.json"}):
    if name.startswith("refused"):
        continue
    head = subprocess.run(["convert", name, "-auto-orient", "-format", "%w %h", "info:"], capture_output=True)
    raw = subprocess.run(
        ["convert", name, "-auto-orient", "-colorspace", "sRGB", "-depth", "16", "-endian", "MSB", "rgb:-"],
        capture_output=True,
    )
    expected[name] = [*map(int, head.stdout.split()), raw.stdout[::2].hex()]
with open("expected.json", "w") as file:
    json.dump(expected, file, indent=0)
    file.write("\n")
END
