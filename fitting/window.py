"""Averages in time."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad


def averaged(values: Tensor, mask: Tensor, width: Tensor) -> Tensor:
    """values (clips, frames, K) averaged under a Gaussian of deviation width (clips,) frames, over the frames of mask.

    mask (clips, frames): what is off it counts nothing and stays as it is. A width of 0 changes nothing.
    """
    reach = int(min(3 * width.max(), mask.shape[1] - 1))
    if reach == 0:
        return values
    apart = torch.arange(-reach, reach + 1).to(values) / width.to(values).clamp_min(1e-3)[:, None]
    window = torch.exp(-0.5 * apart.square())[:, None]
    counted = torch.cat((values, torch.ones_like(values[..., :1])), 2) * mask[..., None]
    sums = conv1d(pad(counted.permute(2, 0, 1), (reach, reach)), window, groups=len(values)).permute(1, 2, 0)
    return torch.where(mask[..., None], sums[..., :-1] / sums[..., -1:], values)
