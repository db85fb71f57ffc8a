"""Intervals of the difference between two versions asked about the same rows, and the verdict. Pure.

Arrays are numpy's, one value per row; `groups` are codes 0 … G−1 per row, each of which occurs, or None where
rows are independent.
"""
