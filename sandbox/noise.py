"""Noise from coordinates alone: the same place gives the same numbers, whatever window it is looked at through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xBF58476D1CE4E5B9)
_MIX_C = np.uint64(0x94D049BB133111EB)


def hash_unit(x: NDArray[np.int64], y: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) from integer coordinates (broadcast together), after splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        h = x.astype(np.uint64) * _MIX_A ^ (y.astype(np.uint64) + np.uint64(seed & 0xFFFFFFFF)) * _MIX_B
        h = (h ^ (h >> np.uint64(30))) * _MIX_B
        h = (h ^ (h >> np.uint64(27))) * _MIX_C
        h ^= h >> np.uint64(31)
    unit: NDArray[np.float32] = (h >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    return unit


def hash_one(x: int, y: int, seed: int) -> float:
    """One uniform number in [0, 1)."""
    return float(hash_unit(np.array([x], np.int64), np.array([y], np.int64), seed)[0])


def value_noise(cols: NDArray[np.int64], rows: NDArray[np.int64], period: int, seed: int) -> NDArray[np.float32]:
    """Smooth noise in [0, 1) on a lattice of `period` pixels.

    Args:
        cols: pixel columns, consecutive, shape (width,).
        rows: pixel rows, shape (height,).
        period: lattice spacing in pixels.
        seed: which field of noise.

    Returns:
        Shape (height, width).
    """
    ix, fx = _lattice(cols, period)
    iy, fy = _lattice(rows, period)
    lattice_x = np.arange(ix.min(), ix.max() + 2)
    lattice_y = np.arange(iy.min(), iy.max() + 2)
    values = hash_unit(lattice_x[None, :], lattice_y[:, None], seed)
    iy, ix = iy - lattice_y[0], ix - lattice_x[0]
    lines = values[iy] + (values[iy + 1] - values[iy]) * fy[:, None]
    left = lines[:, ix]
    blended: NDArray[np.float32] = left + (lines[:, ix + 1] - left) * fx[None, :]
    return blended


def _lattice(index: NDArray[np.int64], period: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Lattice cell of each pixel and the smoothed position in it."""
    cell = index // period
    f = ((index - cell * period) / np.float32(period)).astype(np.float32)
    return cell, f * f * (np.float32(3) - np.float32(2) * f)
