"""Draw synthetic scenes as an image folder, in ADE20K's layout and in COCO's.

python tools/data/make_scenes.py OUT --train 150 --val 300 --unlabelled 5000 --seed 0
"""

from mimseg.data.scenes.write import main

if __name__ == "__main__":
    raise SystemExit(main())
