"""Triton kernels for training on a GPU, each behind the module or optimizer whose values it computes, and the choice between ways.

The modules with kernels import triton; `choice` and `network` do not, and import those only where triton works.
"""
