# Teachers to rank by token diversity; none of these needs a network:
#   mimseg analyze token-diversity --teachers token_diversity \
#       --images FOLDER --out work_dirs/token_diversity
# Each entry is a teacher's config; `layer` is the block whose tokens are looked at (-1, the last).
# At 224 px all of them have a 14x14 grid.

_vit = dict(type="mimseg.ViT", arch="small", img_size=224, patch_size=16)

teachers = dict(
    pixels=dict(type="mimseg.PixelTeacher", patch_size=16),
    vit_s_random_depth_0=dict(type="mimseg.ViTTeacher", init="random", backbone=_vit, depth=0),
    vit_s_random_depth_4=dict(type="mimseg.ViTTeacher", init="random", backbone=_vit, depth=4),
    vit_s_random_depth_12=dict(type="mimseg.ViTTeacher", init="random", backbone=_vit, depth=12),
    # Stage 3 has stride 16; stage 4 meets the same grid at twice the size.
    resnet50_random_stage_3=dict(
        type="mimseg.TimmTeacher", model="resnet50", weights="random", stage=3
    ),
    resnet50_random_stage_4=dict(
        type="mimseg.TimmTeacher", model="resnet50", weights="random", stage=4, input_size=448
    ),
    # Pretrained ones: a file of yours, or weights="hub" to download it.
    # dino_vit_s=dict(
    #     type="mimseg.TimmTeacher", model="vit_small_patch16_224.dino", weights="dino.safetensors"
    # ),
    # dino_vit_s_block_8=dict(
    #     type="mimseg.TimmTeacher", model="vit_small_patch16_224.dino", weights="hub", layer=8
    # ),
    # clip_vit_b=dict(
    #     type="mimseg.OpenCLIPTeacher", model="ViT-B-16-quickgelu", weights="hub:openai"
    # ),
    # ours=dict(type="mimseg.ViTTeacher", init="work_dirs/dbot", backbone=_vit),
)

# A teacher that takes its shape from the student needs one here, as in a training config:
# student = dict(type="mimseg.ViT", arch="small", img_size=224, patch_size=16)
