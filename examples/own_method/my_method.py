# MAE at demo size with a loss of one's own, from my_loss.py in this folder.
_base_ = 'mimseg::mae/mae_vit-mini-p8_1xb64-40e_scenes.py'
custom_imports = dict(imports=['my_loss'], allow_failed_imports=False)

model = dict(loss=dict(_delete_=True, type='MyLoss'))
