"""The CUDA executor: one fused Triton kernel per view, one program of the grid per image.

`programs` turns built steps into tables, `view` launches. In the kernel: `keys` (the hash), `choices` (the steps'
draws), `pixels` (operations), `maps` (affine maps), `resample` (crops and resizes), `kernel` (a program over an image).

An image on its way is one number per pixel, red + (green << 8) + (blue << 16), row after row without gaps. Where no
side is longer than `constants.ON_CHIP_SIDE` it is a tensor of registers (ON_CHIP), and other pixels are reached by
`gather`; else it lies in scratch memory that this program alone uses, written and read in turn with barriers between.
"""
