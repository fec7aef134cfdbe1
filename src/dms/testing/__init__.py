"""In-memory twins of the seams and other means of testing, shipped for everybody who builds on this program.

They may import anything of the product; the product never imports them (``import-linter`` holds that).
"""
