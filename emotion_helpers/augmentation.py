"""Augmentation: what may change in a spectrogram without changing the emotion.

All functions take and return a batch of pictures, float from 0 (black, silence) to 1, shape
(n, 3, height, width)."""

import torch
from torch.nn.functional import affine_grid, grid_sample


def uniform(pictures: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """One random number per picture, shape (n, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(pictures), 1, 1, 1).to(pictures)


def shift_and_stretch(pictures, shift=0.1, stretch=0.1, pitch=0.0) -> torch.Tensor:
    """Play each picture up to `stretch` slower or faster, move it by up to `shift` of its width,
    and scale its frequencies by up to `pitch`, as if another throat spoke. Silence fills what is
    uncovered; the lowest row stays where it is."""
    grid = torch.zeros(len(pictures), 2, 3, device=pictures.device)
    grid[:, 0, 0] = uniform(pictures, 1 - stretch, 1 + stretch).flatten()
    grid[:, 0, 2] = 2 * uniform(pictures, -shift, shift).flatten()  # the axis goes from -1 to 1
    grid[:, 1, 1] = uniform(pictures, 1 - pitch, 1 + pitch).flatten()
    grid[:, 1, 2] = 1 - grid[:, 1, 1]
    points = affine_grid(grid, list(pictures.shape), align_corners=False)
    return grid_sample(pictures, points, align_corners=False)


def spec_augment(pictures, n_masks=2, mask_size=0.1) -> torch.Tensor:
    """Black out `n_masks` random bands of up to `mask_size` of the height, and of the width;
    Park et al. 2019, doi:10.21437/Interspeech.2019-2680."""
    pictures = pictures.clone()
    for cells in (pictures, pictures.transpose(2, 3)):  # rows, then columns of the same pictures
        centre = (torch.arange(cells.shape[2], device=cells.device)[:, None] + 0.5) / cells.shape[2]
        for _ in range(n_masks):
            size = uniform(pictures, 0, mask_size)
            start = uniform(pictures, 0, 1) * (1 - size)
            cells.masked_fill_((centre >= start) & (centre < start + size), 0)
    return pictures
