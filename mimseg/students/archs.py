"""Lists the sizes of the vision transformers that papers name."""

# Widths and depths of arXiv 2010.11929 (B, L, H), 2012.12877 (T, S) and 2106.04560 (g, G; timm's
# vit_giant_patch14 and vit_gigantic_patch14); mini is ours, for demos.
ARCHS = {
    "mini": dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
    "tiny": dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
    "small": dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    "base": dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    "large": dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
    "huge": dict(embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120),
    "giant": dict(embed_dims=1408, num_layers=40, num_heads=16, feedforward_channels=6144),
    "gigantic": dict(embed_dims=1664, num_layers=48, num_heads=16, feedforward_channels=8192),
}


def last_of_quarters(depth: int) -> list[int]:
    """The last block of each quarter: ViTDet's global blocks, and UperNet's four maps."""
    return [-(-depth * quarter // 4) - 1 for quarter in (1, 2, 3, 4)]
