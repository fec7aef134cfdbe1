"""Volumes and where their content comes from and goes to.

:mod:`~dms.storage.errors`  the tree of errors
"""
