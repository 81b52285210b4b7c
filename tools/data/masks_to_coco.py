"""Turn 8-bit label maps into COCO instances by connected components.

python tools/data/masks_to_coco.py IMAGES ANNOTATIONS OUT.json --things 8:car 9:pedestrian
"""

from mimseg.data.masks_to_coco import main

if __name__ == "__main__":
    raise SystemExit(main())
