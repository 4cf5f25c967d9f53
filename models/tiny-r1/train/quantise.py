"""Block-scaled FP8, as DeepSeek publishes its weights."""
import torch

def quantise(w, block=128):
    """float8 e4m3 with one float32 scale for each 128x128 block; dequantised weight = value * scale_inv."""
    o, i = w.shape
    so, si = -(-o // block), -(-i // block)
    pad = torch.zeros(so * block, si * block); pad[:o, :i] = w
    b = pad.view(so, block, si, block)
    scale = b.abs().amax((1, 3)).clamp_min(1e-12) / 448.0
    q = (b / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    return q.view(so * block, si * block)[:o, :i].contiguous(), scale

def is_fp8(name, w):
    """Which tensors are stored so: the projections. Embeddings, head, norms and gates are not."""
    return w.dim() == 2 and (name.endswith("proj.weight") or name.endswith("proj_with_mqa.weight"))
