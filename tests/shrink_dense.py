"""Segmentation and detection configs at a size that a test can train."""

from mimseg.students.archs import ARCHS

ARCH = dict(embed_dims=48, num_layers=6, num_heads=4, feedforward_channels=96)
SIDE, PATCH, CHANNELS = 64, 8, 16
NUMBERS = dict(channels=CHANNELS, fc_out_channels=32, num=16, nms_pre=50, max_per_img=50)
SCALES = dict(scale=(SIDE, SIDE), scales=[(96, 48), (96, SIDE)], crop_size=(SIDE, SIDE))


def shrink_dense(cfg):
    """Six blocks of width 48, images of 64 px, heads of 16 channels, in place."""
    backbone = cfg.model.backbone
    width = ARCHS[backbone.arch]["embed_dims"]
    taps = (2, 3, 4, 5) if len(backbone.out_indices) == 4 else (5,)
    backbone.update(arch=ARCH, img_size=SIDE, patch_size=PATCH, out_indices=taps)
    backbone.drop_path_rate = 0.0  # it may drop a block for both images of a batch
    if 0 < backbone.get("layer_scale", 0) < 0.1:
        backbone.layer_scale = 0.1  # behind less, AdamW's epsilon outweighs a gradient
    if backbone.get("window_size"):
        backbone.window_size = 3  # the map's side is no multiple of it
    if cfg.model.data_preprocessor.get("size"):
        cfg.model.data_preprocessor.size = (SIDE, SIDE)
    if cfg.model.data_preprocessor.get("pad_size_divisor", 0) > SIDE:
        cfg.model.data_preprocessor.pad_size_divisor = SIDE
    for part in (key for key in cfg.model if key not in ("backbone", "data_preprocessor")):
        _narrow(cfg.model[part], {width: ARCH["embed_dims"], 256: CHANNELS})


def _narrow(node, channels):
    """Replace numbers below a config node: by key, or, of other channels, by value."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in NUMBERS:
                node[key] = NUMBERS[key]
            elif isinstance(value, int) and key.endswith("channels"):
                node[key] = channels.get(value, value)
            elif isinstance(value, list) and key == "in_channels":
                node[key] = [channels.get(one, one) for one in value]
            else:
                _narrow(value, channels)
    elif isinstance(node, list | tuple):
        for one in node:
            _narrow(one, channels)


def shrink_pipelines(node):
    """Resize and crop to about 64 px in every pipeline below a config node, in place."""
    if isinstance(node, dict) and str(node.get("type")).endswith(("Resize", "Crop")):
        node.update({key: size for key, size in SCALES.items() if key in node})
    elif isinstance(node, dict | list | tuple):
        for one in node.values() if isinstance(node, dict) else node:
            shrink_pipelines(one)
